//! `[location]` and `[location.postgres]`: where bindings live and what an answer promises.

use std::path::{Path, PathBuf};
use std::time::Duration;

use viaduct_engine::Listener;
use viaduct_location::{Backend, Mode, PostgresConfig, Tls};

use super::keys::state_path;
use super::listen::parse_host_port;
use super::reader::Section;
use super::size;

/// When a REGISTER is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocationMode {
    /// After its bindings are stored.
    WriteThrough,
    /// At once; they are stored after so much time.
    WriteBack(Duration),
    /// At once; nothing is stored.
    Memory,
}

impl LocationMode {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            LocationMode::WriteThrough => "write-through",
            LocationMode::WriteBack(_) => "write-back",
            LocationMode::Memory => "memory",
        }
    }
}

/// `[location]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationConfig {
    /// When a REGISTER is acknowledged.
    pub mode: LocationMode,
    /// The embedded store's file.
    pub file: PathBuf,
    /// The database, where that is the store.
    pub postgres: Option<PostgresConfig>,
    /// Acknowledge what the store cannot take.
    pub accept_when_down: bool,
    /// Most AoRs in all tables.
    pub max_aors: usize,
    /// Most bindings in all tables.
    pub max_bindings: usize,
    /// A binding ends with the TCP connection it was made by.
    pub drop_lost_tcp: bool,
}

impl LocationConfig {
    /// For the location service.
    pub fn service(&self) -> viaduct_location::Config {
        let backend = || match &self.postgres {
            Some(postgres) => Backend::Postgres(Box::new(postgres.clone())),
            None => Backend::File(self.file.clone()),
        };
        viaduct_location::Config {
            mode: match self.mode {
                LocationMode::Memory => Mode::Memory,
                LocationMode::WriteThrough => Mode::WriteThrough(backend()),
                LocationMode::WriteBack(interval) => Mode::WriteBack(backend(), interval),
            },
            max_aors: self.max_aors,
            max_bindings: self.max_bindings,
            accept_when_down: self.accept_when_down,
            ..viaduct_location::Config::default()
        }
    }

    /// Mode and place, for people.
    pub fn summary(&self) -> String {
        let place = match &self.postgres {
            Some(postgres) => format!("PostgreSQL at {}, as {}", postgres.place(), postgres.node),
            None => self.file.display().to_string(),
        };
        match self.mode {
            LocationMode::Memory => "memory only: a restart forgets all bindings".to_owned(),
            LocationMode::WriteThrough => format!("write-through to {place}"),
            LocationMode::WriteBack(interval) => {
                format!("write-back every {} s to {place}", interval.as_secs())
            }
        }
    }
}

/// The words of `mode`, before `write_back_s` is known.
#[derive(Clone, Copy)]
enum Word {
    Through,
    Back,
    Memory,
}

pub(super) fn read(
    top: &mut Section<'_, '_>,
    listeners: &[Listener],
    folder: &Path,
    state_dir: &Path,
) -> LocationConfig {
    const MODES: [(&str, Word); 3] =
        [("write-through", Word::Through), ("write-back", Word::Back), ("memory", Word::Memory)];
    let mut section = top.section("location");
    let mode = section.choice("mode", &MODES, ("write-through", Word::Through));
    let interval = Duration::from_secs(section.number("write_back_s", 1..=3600, 10));
    let in_database =
        section.choice("store", &[("file", false), ("postgres", true)], ("file", false));
    let accept_when_down =
        section.choice("when_down", &[("refuse", false), ("accept", true)], ("refuse", false));
    let config = LocationConfig {
        mode: match mode {
            Word::Through => LocationMode::WriteThrough,
            Word::Back => LocationMode::WriteBack(interval),
            Word::Memory => LocationMode::Memory,
        },
        file: state_path(&mut section, "file", "location.redb", folder, state_dir),
        accept_when_down,
        max_aors: size(section.number("max_aors", 1..=100_000_000, 1_000_000)),
        max_bindings: size(section.number("max_bindings", 1..=100_000_000, 2_000_000)),
        drop_lost_tcp: section.flag("drop_lost_tcp", false),
        postgres: postgres(&mut section, listeners, folder).filter(|_| in_database),
    };
    if in_database && config.postgres.is_none() {
        let name = section.name("postgres.connection");
        let problem = "is missing: `store` says \"postgres\"".to_owned();
        section.sheet().fault(section.place("store"), &name, problem, CONNECTION);
    }
    section.close();
    config
}

const CONNECTION: &str = "a connection string such as \"host=/run/postgresql user=viaduct \
                          dbname=viaduct\", without a password";

/// Values of `sslmode`.
pub(super) const TLS: [(&str, Tls); 3] =
    [("disable", Tls::Disable), ("require", Tls::Require), ("verify-full", Tls::VerifyFull)];

/// `None` where it names no database.
fn postgres(
    location: &mut Section<'_, '_>,
    listeners: &[Listener],
    folder: &Path,
) -> Option<PostgresConfig> {
    const NODE: &str = "1 to 64 letters, digits and `.:-_[]`";
    const ADDRESS: &str = "a host name or IP address, with or without a port";
    let mut section = location.section("postgres");
    let s = &mut section;
    let connection = s.text("connection", "", CONNECTION);
    let password_file = s.text("password_file", "", "a path");
    let tls = s.choice("sslmode", &TLS, ("verify-full", Tls::VerifyFull));
    let ca_file = s.text("ca_file", "", "a path");
    let node = s.text_if("node", "", NODE, is_node_name);
    let node_address =
        s.text_if("node_address", "", ADDRESS, |text| parse_host_port(text).is_some());
    let mut millis = |key, range, default| Duration::from_millis(s.number(key, range, default));
    let connect_timeout = millis("connect_timeout_ms", 100..=60_000, 5000);
    let write_timeout = millis("write_timeout_ms", 100..=60_000, 3000);
    let poll_interval = millis("poll_interval_ms", 10..=60_000, 500);
    let keep_removed = Duration::from_secs(s.number("keep_removed_s", 60..=604_800, 3600));
    let node_dead = Duration::from_secs(s.number("node_dead_s", 3..=3600, 15));
    let config = connection.map(|text| {
        let own = listeners.first().map(|listener| format!("{}:{}", listener.host, listener.port));
        let config = PostgresConfig {
            connection: text.value,
            password_file: password_file.map(|text| folder.join(text.value)),
            tls,
            ca_file: ca_file.map(|text| folder.join(text.value)),
            node: node.map(|text| text.value).or(own).unwrap_or_default(),
            node_address: node_address.and_then(|text| written(&text.value)).unwrap_or_default(),
            connect_timeout,
            write_timeout,
            poll_interval,
            keep_removed,
            node_dead,
        };
        if let Err(problem) = config.check() {
            section.sheet().fault(text.at, &text.key, format!("is bad: {problem}"), CONNECTION);
        }
        config
    });
    section.close();
    config
}

/// As it stands in a URI.
fn written(address: &str) -> Option<String> {
    let (host, port) = parse_host_port(address)?;
    Some(port.map_or(host.clone(), |port| format!("{host}:{port}")))
}

fn is_node_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}
