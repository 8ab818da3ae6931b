//! Runs SIPp with one of our scenarios and collects what it counted and complained about.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::net::{self, Transport};
use super::process::Process;
use super::sip_client::SipClient;
use super::sip_text::Request;
use super::skip::find_program;

/// A SIPp run being described.
#[derive(Debug)]
pub struct Sipp {
    scenario: PathBuf,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    transport: Transport,
    calls: u32,
    /// Calls begun per second.
    rate: u32,
    /// Most calls up at a time.
    limit: u32,
    more: Vec<String>,
    /// Network namespace it runs in.
    namespace: Option<String>,
    /// Files in its working folder.
    files: Vec<(&'static str, Vec<u8>)>,
}

/// A SIPp that is running.
#[derive(Debug)]
pub struct Running {
    process: Process,
    folder: TempDir,
    name: String,
}

/// What a finished SIPp reported.
#[derive(Debug)]
pub struct Report {
    /// Its exit status: 0 when no call failed.
    pub code: Option<i32>,
    /// Calls that went as the scenario says.
    pub successful: u64,
    /// Calls that did not.
    pub failed: u64,
    /// Messages it sent again.
    pub retransmissions: u64,
    /// Its error file: unexpected messages, failed checks.
    pub errors: String,
    /// Every message sent and received, if asked for with [`Sipp::trace_messages`].
    pub messages: String,
}

impl Report {
    /// Fails where a call went badly, or fewer than `calls` went well.
    ///
    /// # Errors
    /// Says what was counted, with SIPp's own errors.
    pub fn none_failed(&self, who: &str, calls: u64) -> Result<()> {
        let Self { failed, successful, errors, .. } = self;
        if *failed == 0 && *successful >= calls {
            return Ok(());
        }
        bail!("{who}: {successful} calls good, {failed} failed\n{errors}\n{}", self.messages)
    }

    /// Fails unless exactly `calls` calls went well and none badly.
    ///
    /// # Errors
    /// Says what was counted, with SIPp's own errors.
    pub fn all_good(&self, who: &str, calls: u64) -> Result<()> {
        if self.failed == 0 && self.successful == calls && self.code == Some(0) {
            return Ok(());
        }
        let mut text =
            format!("{who}: {} of {calls} calls good, {} failed", self.successful, self.failed);
        let _ = write!(text, ", exit {:?}\n{}\n{}", self.code, self.errors, self.messages);
        bail!(text)
    }
}

/// SIPp's place, or `None` where it is not installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    find_program("sipp")
}

impl Sipp {
    /// One call with scenario `tests/sipp/NAME.xml`, at `local`.
    #[must_use]
    pub fn new(name: &str, transport: Transport, local: SocketAddr) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sipp");
        Self {
            scenario: folder.join(format!("{name}.xml")),
            local,
            remote: None,
            transport,
            calls: 1,
            rate: 10,
            limit: 10,
            more: Vec::new(),
            namespace: None,
            files: Vec::new(),
        }
    }

    /// Where it sends its requests. Without it SIPp waits for calls.
    #[must_use]
    pub fn to(mut self, remote: SocketAddr) -> Self {
        self.remote = Some(remote);
        self
    }

    /// How many calls, how many begin each second, how many may be up together.
    #[must_use]
    pub fn calls(mut self, calls: u32, rate: u32, limit: u32) -> Self {
        (self.calls, self.rate, self.limit) = (calls, rate, limit);
        self
    }

    /// Sets the keyword `[name]` of the scenario.
    #[must_use]
    pub fn key(mut self, name: &str, value: &str) -> Self {
        self.more.extend(["-key", name, value].map(str::to_owned));
        self
    }

    /// The user part that `[service]` stands for.
    #[must_use]
    pub fn service(mut self, user: &str) -> Self {
        self.more.extend(["-s", user].map(str::to_owned));
        self
    }

    /// What SIPp's digest names as `uri`, without the scheme; it does not look at the Request-URI.
    #[must_use]
    pub fn auth_uri(mut self, uri: &str) -> Self {
        self.more.extend(["-auth_uri", uri].map(str::to_owned));
        self
    }

    /// The pattern of Call-IDs (`%u`: call number, `%p`: process id, `%s`: address).
    #[must_use]
    pub fn call_ids(mut self, pattern: &str) -> Self {
        self.more.extend(["-cid_str", pattern].map(str::to_owned));
        self
    }

    /// Runs it in a network namespace. One that waits for calls is not waited for then.
    #[must_use]
    pub fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Puts a file into its working folder, where scenarios look for captures.
    #[must_use]
    pub fn file(mut self, name: &'static str, content: Vec<u8>) -> Self {
        self.files.push((name, content));
        self
    }

    /// Echoes RTP that arrives at `port` to where it came from.
    #[must_use]
    pub fn echo(self, port: u16) -> Self {
        let mut this = self.media_port(port);
        this.more.push("-rtp_echo".to_owned());
        this
    }

    /// The port its descriptions name and its captures are sent from.
    #[must_use]
    pub fn media_port(mut self, port: u16) -> Self {
        self.more.extend(["-mp".to_owned(), port.to_string()]);
        self
    }

    /// Keeps every message for [`Report::messages`].
    #[must_use]
    pub fn trace_messages(mut self) -> Self {
        self.more.push("-trace_msg".to_owned());
        self
    }

    /// Starts it; one that waits for calls is ready when this returns.
    ///
    /// # Errors
    /// When SIPp is not there, or its port is not bound within ten seconds.
    pub fn start(&self) -> Result<Running> {
        let program = installed().context("sipp is not installed")?;
        let folder = TempDir::with_prefix("viaduct-sipp-")?;
        let path = |file: &str| folder.path().join(file).into_os_string();
        for (name, content) in &self.files {
            fs::write(folder.path().join(name), content)?;
        }
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        if let Some(remote) = self.remote {
            command.arg(remote.to_string());
        }
        command.arg("-sf").arg(&self.scenario);
        command.args(["-i", &self.local.ip().to_string(), "-p", &self.local.port().to_string()]);
        command.args(["-t", if self.transport == Transport::Udp { "u1" } else { "t1" }]);
        command.args(["-m", &self.calls.to_string(), "-r", &self.rate.to_string()]);
        command.args(["-l", &self.limit.to_string()]);
        // A call that hangs ends by the scenario's own receive timeouts; this is the last resort.
        command.args(["-timeout", "120s", "-timeout_error", "-nostdin", "-skip_rlimit"]);
        command.args(["-trace_stat", "-fd", "200ms", "-trace_err"]);
        command.arg("-stf").arg(path("stat.csv")).arg("-error_file").arg(path("errors"));
        command.arg("-message_file").arg(path("messages"));
        command.args(&self.more).current_dir(folder.path());
        let name = format!("sipp {}", self.scenario.display());
        let process = Process::start(name.clone(), &mut command)?;
        if self.remote.is_none() && self.namespace.is_none() {
            net::wait_until_bound(self.transport, self.local, Duration::from_secs(10))
                .with_context(|| process.log())?;
        }
        Ok(Running { process, folder, name })
    }

    /// Starts it and waits until all calls have ended.
    ///
    /// # Errors
    /// As [`Sipp::start`] and [`Running::finish`].
    pub fn run(&self) -> Result<Report> {
        self.start()?.finish()
    }
}

impl Running {
    /// Whether all calls have ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Waits until `calls` calls are up at the same time.
    ///
    /// # Errors
    /// When SIPp ends or `within` passes first.
    pub fn wait_until_up(&self, calls: u64, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let statistics = fs::read_to_string(self.folder.path().join("stat.csv"));
            let up = last_value(&statistics.unwrap_or_default(), "CurrentCall");
            if up.is_some_and(|up| up >= calls) {
                return Ok(());
            }
            if self.has_ended() || Instant::now() >= deadline {
                bail!("{}: {calls} calls were never up at a time, but {up:?}", self.name);
            }
            // SIPp tells by a file, and only now and then.
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has it begin no more calls; it ends when those that are up have.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn wind_up(&self) -> Result<()> {
        self.process.signal(Signal::SIGUSR1)
    }

    /// Waits until all calls have ended.
    ///
    /// # Errors
    /// When SIPp does not end within 150 seconds, or has left no statistics.
    pub fn finish(mut self) -> Result<Report> {
        let status = self.process.wait(Duration::from_secs(150))?;
        let read = |file: &str| {
            let bytes = fs::read(self.folder.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let statistics = read("stat.csv");
        let count = |column| {
            last_value(&statistics, column).with_context(|| {
                format!("{} left no statistics:\n{}", self.name, self.process.log())
            })
        };
        Ok(Report {
            code: status.code(),
            successful: count("SuccessfulCall(C)")?,
            failed: count("FailedCall(C)")?,
            retransmissions: count("Retransmissions(C)")?,
            errors: read("errors"),
            messages: read("messages"),
        })
    }
}

/// Waits until the server at `server` has a binding for `sip:user@domain`, by asking it from
/// `local` with REGISTER requests without Contact (RFC 3261 10.2.3).
///
/// # Errors
/// When there is none within 15 seconds.
pub fn wait_until_registered(
    transport: Transport,
    local: SocketAddr,
    server: SocketAddr,
    user: &str,
    domain: &str,
) -> Result<()> {
    let mut client = SipClient::new(transport, local, server)?;
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let answer = client.transact(&Request::fetch(user, domain))?;
        if answer.status() == Some(200) && answer.header("Contact").is_some() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("{user}@{domain} did not register; the registrar says:\n{}", answer.text);
        }
        // The registrar has no event for a bystander to wait for.
        thread::sleep(Duration::from_millis(20));
    }
}

/// The value in the last row under a heading of SIPp's statistics file (separated by `;`).
fn last_value(statistics: &str, heading: &str) -> Option<u64> {
    let column = statistics.lines().next()?.split(';').position(|name| name == heading)?;
    statistics.lines().skip(1).last()?.split(';').nth(column)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_counts() {
        let file = "A;SuccessfulCall(C);B\n0;1;0\n0;7;0\n";
        assert_eq!(last_value(file, "SuccessfulCall(C)"), Some(7));
        assert_eq!(last_value(file, "Nothing"), None);
        assert_eq!(last_value("", "A"), None);
    }
}
