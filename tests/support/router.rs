//! A running `viaduct` with a configuration of its own, in a folder that goes with it.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::place;
use super::process::Process;

/// How long a router may take to start or to answer its command line. Debug builds of the compiler
/// for policies are slow; this is patience, not a promise.
const PATIENCE: Duration = Duration::from_secs(60);

/// The router under test, from the environment variable `VIADUCT_BIN` that `make test` sets.
#[must_use]
pub fn binary() -> Option<PathBuf> {
    env::var_os("VIADUCT_BIN").map(PathBuf::from).filter(|path| path.is_file())
}

/// Why a test is skipped when [`binary`] gives nothing.
pub const NO_BINARY: &str = "VIADUCT_BIN does not name a router; run `make test`";

/// What differs between the routers of the tests.
#[derive(Clone, Debug)]
pub struct Setup {
    /// UDP and TCP address.
    pub listen: SocketAddr,
    /// More lines at the top.
    pub top_keys: &'static str,
    /// More lines of `[[listen]]`.
    pub listen_keys: &'static str,
    /// Domains it is responsible for.
    pub domains: Vec<String>,
    /// The policy's component.
    pub policy: PathBuf,
    /// Networks whose Path and `received` it believes without a signature of its own.
    pub trusted: Vec<String>,
    /// `memory` or `write-through`.
    pub location: &'static str,
    /// Path mode where the policy names none.
    pub path_mode: &'static str,
    /// Worker threads.
    pub workers: u32,
    /// More lines of the section `[location]`.
    pub location_keys: &'static str,
    /// More lines of the section `[registrar]`.
    pub registrar_keys: &'static str,
    /// More sections.
    pub sections: &'static str,
    /// More lines of `[location]` and what follows it: `store`, `[location.postgres]`.
    pub store: String,
    /// Lines of `[auth]`; empty: nobody is authenticated.
    pub auth: String,
    /// A program with arguments that starts the router, such as `setpriv`; empty: nobody does.
    pub launcher: Vec<String>,
}

impl Setup {
    /// A router for one domain with a policy.
    #[must_use]
    pub fn new(listen: SocketAddr, domain: &str, policy: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            top_keys: "",
            listen_keys: "",
            domains: vec![domain.to_owned()],
            policy: policy.into(),
            trusted: Vec::new(),
            location: "write-through",
            path_mode: "lazy",
            workers: 2,
            location_keys: "",
            registrar_keys: "",
            sections: "",
            store: String::new(),
            auth: String::new(),
            launcher: Vec::new(),
        }
    }

    /// The same with its bindings in a database.
    #[must_use]
    pub fn in_database(mut self, connection: &str, node: &str) -> Self {
        self.store = format!(
            "store = \"postgres\"\n[location.postgres]\nconnection = \"{connection}\"\n\
             node = \"{node}\"\n"
        );
        self
    }

    /// The one place that knows the configuration's format.
    fn render(&self) -> String {
        let list = |items: &[String]| {
            let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
            quoted.join(", ")
        };
        let wired = if place::is_wired(self.listen) { "xdp = \"required\"" } else { "" };
        let mut text = String::new();
        let _ = write!(
            text,
            "workers = {}\nopen = {}\ndomains = [{}]\ntrusted = [{}]\nstate_dir = \"state\"\ndrain_s = 1\n{}\n\n\
             [[listen]]\naddress = \"{}\"\n{}{wired}\n\n\
             [policy]\nfile = \"{}\"\n\n\
             [location]\nmode = \"{}\"\n{}\n{}\n\
             [registrar]\npath_mode = \"{}\"\n{}\n\n\
             [auth]\n{}\n\
             [admin]\nlisten = \"unix:admin.sock\"\n\n\
             [log]\nlevel = \"info\"\n\n{}\n",
            self.workers,
            !self.listen.ip().is_loopback(),
            list(&self.domains),
            list(&self.trusted),
            self.top_keys,
            self.listen,
            self.listen_keys,
            self.policy.display(),
            self.location,
            self.location_keys,
            self.store,
            self.path_mode,
            self.registrar_keys,
            self.auth,
            self.sections,
        );
        text
    }
}

/// A running router; ends when dropped.
#[derive(Debug)]
pub struct Router {
    process: Process,
    program: PathBuf,
    folder: TempDir,
    listen: SocketAddr,
    launcher: Vec<String>,
}

impl Router {
    /// Writes the configuration, starts the router and waits for its ready line.
    ///
    /// # Errors
    /// When it does not become ready; the error carries its log.
    pub fn start(setup: &Setup) -> Result<Self> {
        Self::start_program(&binary().context(NO_BINARY)?, setup)
    }

    /// The same with another program than that of `VIADUCT_BIN`.
    ///
    /// # Errors
    /// As [`Router::start`].
    pub fn start_program(program: &Path, setup: &Setup) -> Result<Self> {
        let folder = TempDir::with_prefix("viaduct-")?;
        fs::write(folder.path().join("viaduct.toml"), setup.render())?;
        let listen = setup.listen;
        let process = place::at(listen, || launch(program, folder.path(), &setup.launcher))??;
        let (program, launcher) = (program.to_owned(), setup.launcher.clone());
        Ok(Self { process, program, folder, listen, launcher })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its SIP address.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Everything it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for the first line, past or future, that `wanted` accepts.
    ///
    /// # Errors
    /// As [`Process::wait_for_line`].
    pub fn wait_for_line(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        self.process.wait_for_line(what, within, wanted)
    }

    /// `kill -9`, so that nothing is written any more.
    ///
    /// # Errors
    /// When it cannot be reaped.
    pub fn kill_hard(&mut self) -> Result<()> {
        self.process.kill_hard()
    }

    /// Starts it again with the same configuration and state, after it has ended.
    ///
    /// # Errors
    /// As [`Router::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let Self { program, folder, launcher, .. } = &*self;
        let process = place::at(self.listen, || launch(program, folder.path(), launcher))??;
        self.process = process;
        Ok(())
    }

    /// SIGTERM, and waits until it has drained and ended by itself.
    ///
    /// # Errors
    /// When it does not end, or with another status than 0.
    pub fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(PATIENCE)?;
        if !status.success() {
            bail!("the router ended with {status}:\n{}", self.log());
        }
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// With its log, when it does not.
    pub fn check_alive(&self) -> Result<()> {
        self.process
            .signal(Signal::SIGCONT) // does nothing to a running process
            .with_context(|| format!("the router is gone:\n{}", self.log()))?;
        self.cli(&["status"]).map(drop)
    }

    /// Memory it has resident, bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kib: u64 = kib.context("no VmRSS")?.trim().parse()?;
        Ok(kib * 1024)
    }

    /// What each descriptor is that it has open.
    ///
    /// # Errors
    /// When it is gone.
    pub fn descriptors(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.process.pid()))? {
            // One that has been closed meanwhile is none.
            if let Ok(what) = fs::read_link(entry?.path()) {
                found.push(what.display().to_string());
            }
        }
        Ok(found)
    }

    /// Runs a command on its configuration, for what works without a running router.
    ///
    /// # Errors
    /// When the command fails, with what it said.
    pub fn offline(&self, words: &[&str]) -> Result<String> {
        let config = self.folder.path().join("viaduct.toml");
        let output = command(&self.program, &self.launcher)
            .arg("--config")
            .arg(config)
            .args(words)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("viaduct {}: {}\n{said}{complaint}", words.join(" "), output.status);
        }
        Ok(said)
    }

    /// A counter of its metrics, all workers together.
    ///
    /// # Errors
    /// When it gives no metrics, or has no such counter.
    pub fn metric(&self, name: &str) -> Result<u64> {
        self.metric_of(name, "")
    }

    /// Waits until a counter has reached `least`: workers publish theirs after what they counted.
    ///
    /// # Errors
    /// When it does not, or there is none.
    pub fn wait_for_metric(&self, name: &str, least: u64) -> Result<u64> {
        self.wait_for_metric_of(name, "", least)
    }

    /// The same for those lines of it that contain `label`.
    ///
    /// # Errors
    /// As [`Router::wait_for_metric`].
    pub fn wait_for_metric_of(&self, name: &str, label: &str, least: u64) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric_of(name, label)?;
            if value >= least {
                return Ok(value);
            }
            if Instant::now() >= deadline {
                bail!("{name} {label} is {value}, not {least}:\n{}", self.log());
            }
            // Nobody is told when a counter changes.
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a scrape gives, HTTP head included.
    ///
    /// # Errors
    /// When its admin socket does not answer.
    pub fn metrics(&self) -> Result<String> {
        let mut stream = UnixStream::connect(self.folder.path().join("admin.sock"))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// [`Router::metric`] of those lines that contain `label`.
    ///
    /// # Errors
    /// As [`Router::metric`].
    pub fn metric_of(&self, name: &str, label: &str) -> Result<u64> {
        let text = self.metrics()?;
        let start = format!("viaduct_{name}_total");
        let values = text.lines().filter(|line| line.starts_with(&start) && line.contains(label));
        let values: Vec<u64> =
            values.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        if values.is_empty() {
            bail!("no metric {name} in:\n{text}");
        }
        Ok(values.iter().sum())
    }

    /// Runs the command line client against it and returns what it printed.
    ///
    /// # Errors
    /// When the command fails, with what it said.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        self.cli_with(words, "")
    }

    /// What the admin API answers to a POST, head and body.
    ///
    /// # Errors
    /// The socket cannot be reached, or nothing comes back.
    pub fn admin_post(&self, path: &str, body: &[u8]) -> Result<String> {
        let mut stream = UnixStream::connect(self.folder.path().join("admin.sock"))?;
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes())?;
        // It may answer before it has read all, and read no more.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        ensure!(!answer.is_empty(), "no answer to POST {path}: {read:?}");
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The same, with a text on its stdin.
    ///
    /// # Errors
    /// As [`Router::cli`].
    pub fn cli_with(&self, words: &[&str], input: &str) -> Result<String> {
        let socket = format!("unix:{}", self.folder.path().join("admin.sock").display());
        let program = binary().context(NO_BINARY)?;
        let mut command = Command::new(program);
        command.arg("--admin").arg(socket).args(words).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // It may be over before it has read anything.
        let _ = child.stdin.take().context("no stdin")?.write_all(input.as_bytes());
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("viaduct {}: {}\n{said}{complaint}", words.join(" "), output.status);
        }
        Ok(said)
    }
}

/// The program, with the words before it.
fn command(program: &Path, launcher: &[String]) -> Command {
    match launcher.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

fn launch(program: &Path, folder: &Path, launcher: &[String]) -> Result<Process> {
    let config = folder.join("viaduct.toml");
    let mut command = command(program, launcher);
    command.arg("run").arg("--config").arg(config);
    let process = Process::start("viaduct", &mut command)?;
    process.wait_for_line("ready", PATIENCE, |line| line.starts_with("viaduct ready:"))?;
    Ok(process)
}
