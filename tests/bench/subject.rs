//! The servers that are measured, each a process pinned to core 0.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use viaduct_tests::support::kamailio::{self, Kamailio};
use viaduct_tests::support::net::{Transport, own_address, wait_until_bound};
use viaduct_tests::support::process::Process;

/// The core of the server under test.
const SERVER_CORE: &str = "0";
/// The core of the load generator.
pub(crate) const GENERATOR_CORE: usize = 1;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The floor.
    Echo,
    /// The opponent.
    Kamailio,
    /// Us.
    Viaduct,
}

/// A running server; ends when dropped.
pub(crate) struct Subject {
    kind: Kind,
    address: SocketAddr,
    /// The generator's addresses toward this server; the same in every run, so that a contact
    /// registered again is the same contact.
    generator: (SocketAddr, SocketAddr),
    server: Server,
}

enum Server {
    Plain { process: Process, _state: Option<TempDir> },
    Kamailio(Kamailio),
}

impl Subject {
    /// This program once more, as an echo server.
    pub(crate) fn echo() -> Result<Self> {
        let address = free_address();
        let mut command = pinned();
        command.arg(env::current_exe()?).arg("--echo-server").arg(address.to_string());
        let process = Process::start("echo server", &mut command)?;
        Self::plain(Kind::Echo, address, process, None)
    }

    /// Kamailio, or `None` if it is not installed.
    pub(crate) fn kamailio() -> Result<Option<Self>> {
        if kamailio::installed().is_none() {
            return Ok(None);
        }
        let address = free_address();
        let server = kamailio::start(address, &["taskset", "-c", SERVER_CORE])?;
        Ok(Some(Self::with(Kind::Kamailio, address, Server::Kamailio(server))))
    }

    /// The router, with the placeholders in its configuration filled in.
    pub(crate) fn viaduct(binary: &Path, config: &Path) -> Result<Self> {
        let address = free_address();
        let state = TempDir::with_prefix("viaduct-bench-")?;
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies").canonicalize()?;
        let text = fs::read_to_string(config).with_context(|| config.display().to_string())?;
        let text = text
            .replace("@LISTEN@", &address.to_string())
            .replace("@STATE@", &state.path().display().to_string())
            .replace("@POLICIES@", &policies.display().to_string());
        let filled = state.path().join("viaduct.toml");
        fs::write(&filled, text)?;
        let mut command = pinned();
        command.arg(binary).arg("run").arg("--config").arg(filled);
        let process = Process::start("viaduct", &mut command)?;
        let ready = |line: &str| line.starts_with("viaduct ready:");
        process.wait_for_line("ready", Duration::from_secs(60), ready)?;
        Self::plain(Kind::Viaduct, address, process, Some(state))
    }

    fn plain(
        kind: Kind,
        address: SocketAddr,
        process: Process,
        state: Option<TempDir>,
    ) -> Result<Self> {
        wait_until_bound(Transport::Udp, address, Duration::from_secs(30))
            .with_context(|| process.log())?;
        Ok(Self::with(kind, address, Server::Plain { process, _state: state }))
    }

    fn with(kind: Kind, address: SocketAddr, server: Server) -> Self {
        Self { kind, address, generator: (free_address(), free_address()), server }
    }

    /// Addresses of caller and callee.
    pub(crate) fn generator_addresses(&self) -> (SocketAddr, SocketAddr) {
        self.generator
    }

    /// Which server this is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name in the table.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its first process.
    pub(crate) fn pid(&self) -> u32 {
        match &self.server {
            Server::Plain { process, .. } => process.pid(),
            Server::Kamailio(kamailio) => kamailio.pid(),
        }
    }

    /// The end of its log, for errors.
    pub(crate) fn log_tail(&self) -> String {
        let log = match &self.server {
            Server::Plain { process, .. } => process.log(),
            Server::Kamailio(kamailio) => kamailio.log(),
        };
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
        format!("the end of {}'s log:\n{tail}", self.name())
    }
}

impl Kind {
    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Kamailio => "kamailio",
            Self::Viaduct => "viaduct",
        }
    }
}

/// taskset replaces itself by the program, so the process id stays the child's.
fn pinned() -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]);
    command
}

fn free_address() -> SocketAddr {
    let ip: Ipv4Addr = own_address();
    (ip, 5060).into()
}
