//! The router under test: one worker, the shipped registrar, bindings in memory, and listeners that
//! stand for the addresses the torture messages are sent to.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use viaduct_tests::support::policy;
use viaduct_tests::support::process::Process;
use viaduct_tests::support::router;

/// Patience with a busy machine, not a promise.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a counter may take to show what has happened.
const SOON: Duration = Duration::from_secs(10);

/// A running router.
#[derive(Debug)]
pub(crate) struct Node {
    process: Process,
    folder: TempDir,
}

/// An address to listen on, and what others call it.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    pub(crate) advertise: Option<&'static str>,
}

impl Node {
    /// Starts a router that is responsible for `domains`.
    pub(crate) fn start(listen: &[Listen], domains: &[&str]) -> Result<Self> {
        let program = router::binary().context(router::NO_BINARY)?;
        let policy = policy::shipped("registrar")?;
        let folder = TempDir::with_prefix("viaduct-torture-")?;
        // One worker: what is sent first over one socket is done first.
        let mut text = format!(
            "workers = 1\ndomains = {domains:?}\nstate_dir = \"state\"\ndrain_s = 1\n\
             [policy]\nfile = {policy:?}\n[location]\nmode = \"memory\"\n\
             [admin]\nlisten = \"unix:admin.sock\"\n[log]\nlevel = \"info\"\n"
        );
        for one in listen {
            let _ = write!(text, "[[listen]]\naddress = \"{}\"\n", one.address);
            if let Some(name) = one.advertise {
                let _ = writeln!(text, "advertise = \"{name}\"");
            }
        }
        let config = folder.path().join("viaduct.toml");
        fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(config);
        let process = Process::start("viaduct", &mut command)?;
        process.wait_for_line("ready", PATIENCE, |line| line.starts_with("viaduct ready:"))?;
        Ok(Self { process, folder })
    }

    /// Everything it has printed.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The sum over a metric's labels; 0 where it has not been counted yet.
    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        let socket = self.folder.path().join("admin.sock");
        let mut stream = UnixStream::connect(socket).context("the admin socket")?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "asking for metrics:\n{answer}");
        let mut sum = 0;
        for line in answer.lines() {
            let Some(rest) = line.strip_prefix(name) else { continue };
            if rest.starts_with([' ', '{']) {
                let value = rest.rsplit(' ').next().unwrap_or_default();
                sum += value.parse::<u64>().with_context(|| line.to_owned())?;
            }
        }
        Ok(sum)
    }

    /// Messages it has thrown away: malformed ones, and responses to nothing it has sent.
    pub(crate) fn thrown_away(&self) -> Result<u64> {
        let malformed = self.metric("viaduct_malformed_total")?;
        Ok(malformed + self.metric("viaduct_stray_responses_total")?)
    }

    /// Waits until it has thrown away so many.
    pub(crate) fn wait_until_thrown_away(&self, wanted: u64) -> Result<()> {
        let deadline = Instant::now() + SOON;
        loop {
            // A worker shows its counters after a batch: maybe a moment after the answer.
            let now = self.thrown_away()?;
            if now == wanted {
                return Ok(());
            }
            if Instant::now() >= deadline || now > wanted {
                bail!("{wanted} messages should have been thrown away, there are {now}");
            }
        }
    }

    /// It has run its policy without a failure, is alive, and ends by itself when told.
    pub(crate) fn finish(mut self) -> Result<()> {
        let runs = self.metric("viaduct_policy_runs_total")?;
        let failures = self.metric("viaduct_policy_failures_total")?;
        ensure!(runs > 0, "no policy has run, or the metric has another name");
        ensure!(failures == 0, "{failures} policy failures:\n{}", self.log());
        self.process.signal(Signal::SIGTERM).context("the router is gone")?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(status.success(), "the router ended with {status}:\n{}", self.log());
        Ok(())
    }
}
