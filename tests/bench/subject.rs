//! The servers that are measured, each a process; pinned to core 0, but where a database shares the
//! machine with it.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use viaduct_tests::support::kamailio::{self, Kamailio, Keeps};
use viaduct_tests::support::net::{Transport, own_address, wait_until_bound};
use viaduct_tests::support::postgres::Postgres;
use viaduct_tests::support::process::Process;

use crate::veth::Place;

/// The core of the server under test, where it has one to itself.
pub(crate) const SERVER_CORE: &str = "0";
const PIN: [&str; 3] = ["taskset", "-c", SERVER_CORE];
/// The core of the load generator.
pub(crate) const GENERATOR_CORE: usize = 1;
/// Memory the router has from the start, as Kamailio has its own (`shm_force_alloc`): more than the
/// calls of a benchmark need.
const RESERVED: &str = "[limits]\nreserved_memory_mb = 512\n";
/// Patience with a router that starts, also with very many bindings.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Then it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The floor.
    Echo,
    /// The floor of AF_XDP.
    EchoXdp,
    /// The opponent.
    Kamailio,
    /// Us.
    Viaduct,
    /// Us, by AF_XDP.
    ViaductXdp,
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
    Plain { process: Process, _state: Option<Arc<TempDir>> },
    Kamailio(Kamailio),
}

impl Subject {
    /// This program once more, as an echo server.
    pub(crate) fn echo(place: &Place, kind: Kind) -> Result<Self> {
        let address = place.server_address();
        let mut command = pinned(&env::current_exe()?);
        command.arg("--echo-server").arg(address.to_string());
        if kind == Kind::EchoXdp {
            command.arg("--by-xdp");
        }
        let generator = Self::generator();
        place.start(|| {
            let process = Process::start("echo server", &mut command)?;
            Self::plain(kind, address, generator, process, None)
        })
    }

    /// Kamailio, or `None` if it is not installed.
    pub(crate) fn kamailio(place: &Place) -> Result<Option<Self>> {
        if kamailio::installed().is_none() {
            return Ok(None);
        }
        let (address, generator) = (place.server_address(), Self::generator());
        let server = place.start(|| kamailio::start(address, &PIN, Keeps::InMemoryFromTheStart))?;
        let server = Server::Kamailio(server);
        Ok(Some(Self { kind: Kind::Kamailio, address, generator, server }))
    }

    /// Kamailio with its bindings in a database of `server`.
    pub(crate) fn kamailio_in(
        server: &Postgres,
        (database, children): (&str, u32),
        pinned: bool,
    ) -> Result<Self> {
        let address = free_address();
        let prefix: &[&str] = if pinned { &PIN } else { &[] };
        let store = kamailio::Store { folder: server.folder(), database, children };
        let server = kamailio::start(address, prefix, Keeps::InDatabase(store))?;
        let (kind, generator) = (Kind::Kamailio, Self::generator());
        Ok(Self { kind, address, generator, server: Server::Kamailio(server) })
    }

    /// The router.
    pub(crate) fn viaduct(setup: &Setup) -> Result<Self> {
        let file = setup.write()?;
        let program = &setup.binary;
        let mut command = if setup.pinned { pinned(program) } else { Command::new(program) };
        command.arg("run").arg("--config").arg(file);
        let process = Process::start("viaduct", &mut command)?;
        let ready = |line: &str| line.starts_with("viaduct ready:");
        process.wait_for_line("ready", READY_WITHIN, ready)?;
        let (kind, state) = (setup.kind, Some(Arc::clone(&setup.state)));
        Self::plain(kind, setup.address, setup.generator, process, state)
    }

    /// The same server, talked to from other addresses.
    pub(crate) fn asked_from(mut self, generator: (SocketAddr, SocketAddr)) -> Self {
        self.generator = generator;
        self
    }

    fn plain(
        kind: Kind,
        address: SocketAddr,
        generator: (SocketAddr, SocketAddr),
        process: Process,
        state: Option<Arc<TempDir>>,
    ) -> Result<Self> {
        wait_until_bound(Transport::Udp, address, Duration::from_secs(30))
            .with_context(|| process.log())?;
        Ok(Self { kind, address, generator, server: Server::Plain { process, _state: state } })
    }

    /// Addresses for a caller and a callee: of this thread's place, not of the server's.
    fn generator() -> (SocketAddr, SocketAddr) {
        (free_address(), free_address())
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

impl Drop for Subject {
    fn drop(&mut self) {
        // As in operation: it ends by itself, and a build that counts what it does writes that down.
        if let Server::Plain { process, .. } = &mut self.server
            && process.signal(Signal::SIGTERM).is_ok()
        {
            let _ = process.wait(ENDS_WITHIN);
        }
    }
}

impl Kind {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 5] =
        [Self::Echo, Self::EchoXdp, Self::Kamailio, Self::Viaduct, Self::ViaductXdp];

    /// Does it nothing with what it gets?
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::Echo | Self::EchoXdp)
    }

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::EchoXdp => "echo-xdp",
            Self::Kamailio => "kamailio",
            Self::Viaduct => "viaduct",
            Self::ViaductXdp => "viaduct-xdp",
        }
    }
}

/// How a router is started.
pub(crate) struct Setup {
    binary: PathBuf,
    template: PathBuf,
    location: String,
    /// More sections.
    more: &'static str,
    pinned: bool,
    state: Arc<TempDir>,
    address: SocketAddr,
    generator: (SocketAddr, SocketAddr),
    kind: Kind,
}

impl Setup {
    /// A router in a fresh folder, on a core of its own, with its bindings in memory. `template` is
    /// a configuration with placeholders.
    pub(crate) fn new(place: &Place, binary: &Path, template: &Path) -> Result<Self> {
        Ok(Self {
            binary: binary.to_owned(),
            template: template.to_owned(),
            location: "mode = \"memory\"".to_owned(),
            more: RESERVED,
            pinned: true,
            state: Arc::new(TempDir::with_prefix("viaduct-bench-")?),
            address: place.server_address(),
            generator: Subject::generator(),
            kind: Kind::Viaduct,
        })
    }

    /// With its packets by AF_XDP.
    pub(crate) fn by_xdp(self) -> Self {
        Self { kind: Kind::ViaductXdp, ..self }
    }

    /// With other lines of `[location]`.
    pub(crate) fn location(self, lines: String) -> Self {
        Self { location: lines, ..self }
    }

    /// With other sections than that of the memory it has from the start.
    pub(crate) fn more(self, sections: &'static str) -> Self {
        Self { more: sections, ..self }
    }

    /// On a core of its own, or wherever there is room.
    pub(crate) fn pinned(self, pinned: bool) -> Self {
        Self { pinned, ..self }
    }

    /// Runs a command of the router's program with its configuration; what it prints.
    pub(crate) fn command(&self, words: &[&str]) -> Result<String> {
        let file = self.write()?;
        let mut command = Command::new(&self.binary);
        let output = command.arg("--config").arg(file).args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "viaduct {}: {said}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes the configuration.
    fn write(&self) -> Result<PathBuf> {
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies").canonicalize()?;
        let text = fs::read_to_string(&self.template)
            .with_context(|| self.template.display().to_string())?
            .replace("@LISTEN@", &self.address.to_string())
            .replace("@XDP@", if self.kind == Kind::ViaductXdp { "required" } else { "off" })
            .replace("@STATE@", &self.state.path().display().to_string())
            .replace("@POLICIES@", &policies.display().to_string())
            .replace("@LOCATION@", &self.location)
            .replace("@MORE@", self.more);
        let file = self.state.path().join("viaduct.toml");
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// taskset replaces itself by the program, so the process id stays the child's.
fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program);
    command
}

fn free_address() -> SocketAddr {
    (own_address(), 5060).into()
}
