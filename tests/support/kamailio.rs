//! Kamailio as a peer: the opponent in the benchmark, and a second opinion on our SIPp scenarios.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::family::family;
use super::net::{self, Transport};
use super::process::Process;
use super::skip::find_program;

/// A running Kamailio with `tests/bench/kamailio.cfg`; ends when dropped.
#[derive(Debug)]
pub struct Kamailio {
    process: Process,
    _folder: TempDir,
}

/// Where it keeps its bindings.
#[derive(Clone, Copy, Debug)]
pub enum Keeps<'a> {
    /// In memory, which it takes as it uses it.
    InMemory,
    /// In memory, all of which (4 GiB) it takes and touches at the start.
    InMemoryFromTheStart,
    /// In a database too, before it answers.
    InDatabase(Store<'a>),
}

/// A database with its tables.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    /// Folder of a PostgreSQL server's socket.
    pub folder: &'a Path,
    /// The database there.
    pub database: &'a str,
    /// Processes that serve, each of which waits for its own commit.
    pub children: u32,
}

/// The domain its configuration serves.
pub const DOMAIN: &str = "bench.example";

/// Kamailio's place, or `None` where it is not installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    find_program("kamailio")
}

/// What [`start`] needs with a database, or `None` where it is not installed.
#[must_use]
pub fn postgres_module() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|one| one.path().join("kamailio/modules/db_postgres.so")).find(|one| one.is_file())
}

/// Starts Kamailio on UDP and TCP at `address`. `prefix` is put before the command, for example
/// `taskset -c 0`; it must end up executing the rest in the same process.
///
/// # Errors
/// When Kamailio is not installed or does not bind its port within 15 seconds.
pub fn start(address: SocketAddr, prefix: &[&str], keeps: Keeps<'_>) -> Result<Kamailio> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/kamailio.cfg");
    launch(&config, address, prefix, keeps)
}

/// The same with a configuration of the caller's own.
///
/// # Errors
/// As [`start`].
pub fn start_with(config: &Path, address: SocketAddr) -> Result<Kamailio> {
    launch(config, address, &[], Keeps::InMemory)
}

fn launch(
    config: &Path,
    address: SocketAddr,
    prefix: &[&str],
    keeps: Keeps<'_>,
) -> Result<Kamailio> {
    let program = installed().context("kamailio is not installed")?;
    let folder = TempDir::with_prefix("viaduct-kamailio-")?;
    let mut words: Vec<OsString> = prefix.iter().map(OsString::from).collect();
    words.push(program.into());
    words.extend(["-f".into(), config.into()]);
    // -x fm: the fast allocator for shared memory. -m: MiB of it; finished transactions stay for
    // five seconds, which at benchmark rates is a lot of memory.
    words.extend(["-DD", "-E", "-x", "fm", "-m", "4096", "-M", "32"].map(OsString::from));
    let defines = match keeps {
        Keeps::InMemory => Vec::new(),
        Keeps::InMemoryFromTheStart => vec!["MEMORY_FROM_THE_START".to_owned()],
        Keeps::InDatabase(Store { database, children, .. }) => vec![
            "WITH_POSTGRES".to_owned(),
            format!("DB_URL=\"postgres://viaduct@/{database}\""),
            format!("CHILDREN={children}"),
        ],
    };
    for define in defines {
        words.extend(["-A".to_owned(), define].map(OsString::from));
    }
    for transport in ["udp", "tcp"] {
        words.extend(["-l".into(), format!("{transport}:{address}").into()]);
    }
    words.extend(["-Y".into(), folder.path().into(), "-w".into(), folder.path().into()]);
    let (first, rest) = words.split_first().context("an empty command")?;
    let mut command = Command::new(first);
    if let Keeps::InDatabase(store) = keeps {
        // Its URLs have no way to name the folder of a socket.
        command.env("PGHOST", store.folder);
    }
    let process = Process::start("kamailio", command.args(rest))?;
    net::wait_until_bound(Transport::Udp, address, Duration::from_secs(15))
        .with_context(|| process.log())?;
    net::wait_until_bound(Transport::Tcp, address, Duration::from_secs(15))
        .with_context(|| process.log())?;
    Ok(Kamailio { process, _folder: folder })
}

impl Kamailio {
    /// Its first process; the workers are children of it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // SIGTERM lets the first process take its children along, which it sometimes does not do.
        // SIGKILL orphans them, so they are noted before, and end one by one.
        let family = family(self.pid()).unwrap_or_default();
        let _ = self.process.signal(Signal::SIGTERM);
        if self.process.wait(Duration::from_secs(5)).is_err() {
            for pid in family.into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}
