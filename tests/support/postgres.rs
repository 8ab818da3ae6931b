//! A PostgreSQL server of the test's own: a folder that goes with it, a private Unix socket, and the
//! user it may run as (it refuses to run as root).

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use tempfile::TempDir;

use super::family::family;
use super::process::Process;

/// How long the server may take to start, also after a crash.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a test is skipped when [`Postgres::start`] gives nothing.
pub const NO_POSTGRES: &str = "no PostgreSQL server in /usr/lib/postgresql (postgresql)";

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    folder: TempDir,
    owner: Option<User>,
    /// More settings, `name=value`.
    settings: Vec<String>,
    /// Where its network is; empty: here.
    namespace: String,
}

impl Postgres {
    /// Makes a database `viaduct` with a superuser `viaduct` and starts the server; `None` where it
    /// is not installed. `settings` are of postgresql.conf, `name=value`.
    ///
    /// # Errors
    /// When it does not become ready; the error carries its log.
    pub fn start(settings: &[String]) -> Result<Option<Self>> {
        Self::start_in("", settings)
    }

    /// The same with its network in a namespace, by name; the socket is reached from everywhere.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_in(namespace: &str, settings: &[String]) -> Result<Option<Self>> {
        let Some(programs) = programs() else { return Ok(None) };
        let folder = TempDir::with_prefix("viaduct-pg-")?;
        let owner = owner()?;
        if let Some(owner) = &owner {
            let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        let mut command = as_owner(&programs.join("initdb"), owner.as_ref());
        command.args(["--auth=trust", "--username=viaduct", "--encoding=UTF8", "--locale=C"]);
        let made = command.arg("--no-sync").arg("-D").arg(folder.path().join("data")).output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        // A router has no password, wherever it comes from.
        fs::write(folder.path().join("hba"), "local all all trust\nhost all all all trust\n")?;
        let process = launch(folder.path(), owner.as_ref(), settings, namespace)?;
        let (settings, namespace) = (settings.to_vec(), namespace.to_owned());
        let server = Self { process, folder, owner, settings, namespace };
        server.sql_in("postgres", "CREATE DATABASE viaduct")?;
        Ok(Some(server))
    }

    /// How a router reaches it, by its socket.
    #[must_use]
    pub fn connection(&self) -> String {
        format!("host={} user=viaduct dbname=viaduct", self.folder.path().display())
    }

    /// Gives a file to the user it runs as, and to nobody else.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn hand_over(&self, file: &Path) -> Result<PathBuf> {
        let name = file.file_name().context("a file without a name")?;
        let copy = self.folder.path().join(name);
        fs::copy(file, &copy)?;
        fs::set_permissions(&copy, Permissions::from_mode(0o600))?;
        if let Some(owner) = &self.owner {
            chown(&copy, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        }
        Ok(copy)
    }

    /// Its folder, where the tests of a server may put files for it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its first process; each connection has one of its own below it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Runs SQL by psql and returns what it printed, unaligned, without headings.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn sql(&self, text: &str) -> Result<String> {
        self.sql_in("viaduct", text)
    }

    /// The same in another database of the server.
    ///
    /// # Errors
    /// As [`Postgres::sql`].
    pub fn sql_in(&self, database: &str, text: &str) -> Result<String> {
        let program = programs().context(NO_POSTGRES)?.join("psql");
        let output = Command::new(program)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "viaduct"])
            .arg("-h")
            .arg(self.folder.path())
            .args(["-d", database, "-c", text])
            .output()?;
        if !output.status.success() {
            bail!("{text}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// `kill -9` to all of its processes at once, and waits until they are gone.
    ///
    /// # Errors
    /// When one cannot be killed or reaped.
    pub fn kill_hard(&mut self) -> Result<()> {
        let mut all = Vec::new();
        for id in family(self.process.pid())? {
            all.push(Pid::from_raw(i32::try_from(id)?));
        }
        for pid in &all {
            // Gone already: the first one's end is an order to the others.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        self.process.kill_hard()?;
        let deadline = Instant::now() + PATIENCE;
        while all.iter().any(|pid| kill(*pid, None).is_ok()) {
            ensure!(Instant::now() < deadline, "its processes outlive kill -9");
            // Children of another process: nobody tells when they end.
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// More settings for its next start.
    pub fn set(&mut self, settings: &[String]) {
        self.settings.extend_from_slice(settings);
    }

    /// Starts it again on the same data, after it has ended.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let (folder, owner) = (self.folder.path(), self.owner.as_ref());
        self.process = launch(folder, owner, &self.settings, &self.namespace)?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The processes of its connections outlive a killed server for a while and write on.
        let _ = self.kill_hard();
    }
}

fn launch(
    folder: &Path,
    owner: Option<&User>,
    settings: &[String],
    namespace: &str,
) -> Result<Process> {
    let program = programs().context(NO_POSTGRES)?.join("postgres");
    let mut command = match (namespace, owner) {
        ("", owner) => as_owner(&program, owner),
        (namespace, Some(owner)) => {
            // Who enters a namespace is still root; each program replaces itself by the next.
            let mut command = as_owner(Path::new("ip"), None);
            let (uid, gid) = (owner.uid.to_string(), owner.gid.to_string());
            command.args(["netns", "exec", namespace, "setpriv", "--clear-groups"]);
            command.args(["--reuid", &uid, "--regid", &gid]).arg(&program);
            command
        }
        (_, None) => bail!("namespaces need root"),
    };
    command.arg("-c").arg(format!("hba_file={}", folder.join("hba").display()));
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    for setting in ["listen_addresses=", "log_checkpoints=off"] {
        command.args(["-c", setting]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    let process = Process::start("postgres", &mut command)?;
    process.wait_for_line("ready", PATIENCE, |line| {
        line.contains("database system is ready to accept connections")
    })?;
    Ok(process)
}

/// The folder of the newest server's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.flatten().map(|entry| entry.path().join("bin"));
    folders.filter(|folder| folder.join("postgres").is_file()).max()
}

/// Whom the server runs as where the test runs as root.
fn owner() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("no user to run PostgreSQL as")
}

fn as_owner(program: &Path, owner: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env_remove("PGDATA").env("LC_ALL", "C");
    if let Some(owner) = owner {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    command
}
