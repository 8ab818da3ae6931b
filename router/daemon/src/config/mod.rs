//! The configuration file: every key, checked whole before anything starts.
//!
//! A [`Config`] that exists is right: ranges are kept, addresses are concrete, files' names are
//! absolute or relative to the working folder. Start reading at [`Config::load`]; the keys are in
//! `keys.rs`, the faults in [`error`]. Nothing in here opens a socket or writes a file, but for the
//! path keys ([`path_keys`]), which are made when they are missing.

mod auth;
mod dispatcher;
pub mod error;
mod http;
mod keys;
mod listen;
mod location;
mod media;
pub(crate) mod network;
mod packets;
pub mod path_keys;
mod reader;
mod registrar;
mod reload;
mod secret;
mod steering;
pub mod users;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use viaduct_engine::auth::Auth;
use viaduct_engine::path::PathKeys;
use viaduct_engine::registrar::Registrar;
use viaduct_engine::{Bounds, Listener, Network, Settings, Shared, TimerValues};
use viaduct_policy::GuardLimits;

pub use auth::{AuthCacheConfig, AuthConfig, PostgresUsersConfig};
pub use dispatcher::{DispatcherConfig, TableConfig};
pub use error::{ConfigError, ConfigErrors};
pub use http::HttpConfig;
pub(crate) use keys::DEFAULT_ADMIN_SOCKET;
pub use location::{LocationConfig, LocationMode};
pub use media::{KernelUse, MediaConfig};
pub(crate) use packets::MOST_BAN_S;
pub use packets::{PacketsConfig, XdpWish};
pub use secret::SecretSource;

/// A configuration that has passed every check.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Worker threads, 1 to 64.
    pub workers: u8,
    /// Domains that are ours, lower case; the listeners' hosts where none is named.
    pub domains: Vec<Box<str>>,
    /// Peers that are believed.
    pub trusted: Vec<Network>,
    /// Non-loopback listeners without authentication are wanted.
    pub open: bool,
    /// Folder for what must survive a restart.
    pub state_dir: PathBuf,
    /// Server header of our answers; empty: none.
    pub server_header: Box<str>,
    /// Answer to the source port without being asked (RFC 3581).
    pub force_rport: bool,
    /// Use `received` of our own Route values as next hop.
    pub use_received: bool,
    /// Longest wait for transactions under way at a stop, seconds.
    pub drain_s: u64,
    /// Concrete addresses, wildcards expanded.
    pub listeners: Vec<Listener>,
    /// How packets come in.
    pub packets: PacketsConfig,
    /// Policies.
    pub policy: PolicyConfig,
    /// Who the users are; `None`: whoever says so.
    pub auth: Option<AuthConfig>,
    /// HTTP requests of policies.
    pub http: HttpConfig,
    /// Location service.
    pub location: LocationConfig,
    /// Pings to contacts.
    pub keepalive: KeepaliveConfig,
    /// Sets of destinations.
    pub dispatcher: DispatcherConfig,
    /// Tables of policies.
    pub tables: TableConfig,
    /// Media relay of this machine.
    pub media: Option<MediaConfig>,
    /// Media nodes; none where this machine relays.
    pub rtpengine: Option<viaduct_media::ng::Config>,
    /// Registrar.
    pub registrar: Registrar,
    /// File with the keys that sign our Path values.
    pub path_key_file: PathBuf,
    /// Timers.
    pub timers: TimerValues,
    /// Bounds.
    pub limits: Limits,
    /// Where the admin API listens; `None`: nowhere.
    pub admin: Option<AdminConfig>,
    /// Where metrics are served; `None`: on the admin API alone.
    pub metrics: Option<SocketAddr>,
    /// Logs.
    pub log: LogConfig,
}

/// `[policy]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyConfig {
    /// Component to start with where none has been deployed.
    pub file: PathBuf,
    /// Folder of deployed components.
    pub deployed_dir: PathBuf,
    /// When a version is rolled back by itself.
    pub guard: GuardLimits,
}

/// `[keepalive]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepaliveConfig {
    /// Each contact is pinged once in so many seconds; 0: never.
    pub interval_s: u64,
    /// By OPTIONS; else by four zero bytes over UDP.
    pub options: bool,
    /// Only contacts behind NAT.
    pub nated_only: bool,
    /// OPTIONS in a row a contact may leave unanswered before it is removed; 0: any number.
    pub max_lost: u8,
    /// URI of From.
    pub from: Box<str>,
}

/// `[limits]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Server transactions of the whole router.
    pub transactions: usize,
    /// Branches of one request.
    pub branches: usize,
    /// Longest message, bytes.
    pub message_bytes: u32,
    /// Longest request sent by UDP where TCP may be tried, bytes; 0: any.
    pub udp_request_bytes: usize,
    /// Most header lines of a message.
    pub headers: u16,
    /// TCP connections of the whole router.
    pub tcp_connections: usize,
    /// TCP connections of one source address.
    pub tcp_connections_per_source: usize,
    /// A connection without traffic is closed after this, seconds.
    pub tcp_idle_s: u64,
    /// Bytes waiting to be written on one connection.
    pub tcp_write_queue_bytes: usize,
    /// Receive buffer of a UDP socket, bytes; 0: the system's default.
    pub udp_receive_buffer_bytes: usize,
    /// How long messages may wait unread before fewer requests are let in, milliseconds; 0: for
    /// ever.
    pub backlog_ms: u64,
    /// 503s a second of the whole router to those who are not let in.
    pub shed_answers_per_s: u32,
    /// Memory that is taken and touched at the start, MiB.
    pub reserved_memory_mb: usize,
}

/// Where the admin API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddr {
    /// A Unix socket, mode 0600.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where.
    pub listen: AdminAddr,
    /// File with the bearer token; always there for TCP.
    pub token_file: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least level that is written.
    pub level: tracing::Level,
    /// JSON instead of text.
    pub json: bool,
    /// Most event lines a second; the rest is counted.
    pub lines_per_s: u32,
    /// Show registrations and calls on stdout as they happen.
    pub show: bool,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(file: &Path) -> Result<Config, ConfigErrors> {
        let text = std::fs::read_to_string(file).map_err(|fault| {
            let problem = format!("cannot be read: {fault}");
            let error =
                ConfigError { line: 1, key: String::new(), problem, allowed: String::new() };
            ConfigErrors::new(file, vec![error])
        })?;
        Config::parse(&text, file, &listen::machine_addresses)
    }

    /// Checks a text. `addresses` tells which addresses a wildcard listener stands for.
    pub fn parse(
        text: &str,
        file: &Path,
        addresses: &dyn Fn() -> Vec<IpAddr>,
    ) -> Result<Config, ConfigErrors> {
        let (config, errors, _) = keys::read(text, file, addresses);
        match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ => Err(ConfigErrors::new(file, errors)),
        }
    }

    /// The settings of one worker's engine. `auth` is shared by all workers; `secret` is random per
    /// start, the same for all.
    pub fn settings(
        &self,
        worker: u8,
        path_keys: PathKeys,
        auth: Option<Auth>,
        secret: [u8; 16],
    ) -> Settings {
        let workers = usize::from(self.workers).max(1);
        // A request that waits for its user may wait for HTTP next.
        let waits = self.auth.as_ref().map(|auth| (auth.waiting, auth.wait_ms));
        let (waiting, wait_ms) = waits.unwrap_or((0, 0));
        let (waiting, wait_ms) = (waiting.max(self.http.waiting), wait_ms.max(self.http.wait_ms));
        Settings {
            worker,
            listeners: self.listeners.clone(),
            domains: self.domains.clone(),
            trusted: self.trusted.clone(),
            registrar: self.registrar.clone(),
            auth,
            path_keys,
            use_received: self.use_received,
            force_rport: self.force_rport,
            server: self.server_header.clone(),
            // Usual traffic is worth an event only where somebody looks at it.
            events: self.log.show || self.log.level >= tracing::Level::DEBUG,
            timers: self.timers,
            bounds: Bounds {
                transactions: self.limits.transactions.div_ceil(workers),
                branches: self.limits.branches,
                message: viaduct_message::Limits {
                    message_bytes: self.limits.message_bytes,
                    headers: self.limits.headers,
                },
                asking: waiting.div_ceil(workers),
                ask_us: wait_ms.saturating_mul(1000),
                datagram_bytes: self.limits.udp_request_bytes,
                backlog_us: self.limits.backlog_ms.saturating_mul(1000),
                shed_answers_per_s: self
                    .limits
                    .shed_answers_per_s
                    .div_ceil(u32::from(self.workers).max(1)),
            },
            secret,
            shared: Shared::default(),
        }
    }

    /// What is configured, in a few lines for people.
    pub fn summary(&self) -> String {
        let listeners: Vec<String> = self.listeners.iter().map(listener_name).collect();
        let location = self.location.summary();
        let admin = match self.admin.as_ref().map(|admin| &admin.listen) {
            Some(AdminAddr::Unix(path)) => format!("unix:{}", path.display()),
            Some(AdminAddr::Tcp(addr)) => addr.to_string(),
            None => "off".to_owned(),
        };
        let auth = match &self.auth {
            Some(auth) => auth.summary(),
            None => "none: whoever reaches it is believed".to_owned(),
        };
        let media = match (&self.media, &self.rtpengine) {
            (Some(media), _) => media.summary(),
            (None, Some(nodes)) => media::nodes_in_words(nodes),
            (None, None) => "off".to_owned(),
        };
        let metrics = self.metrics.map_or("off".to_owned(), |addr| addr.to_string());
        format!(
            "  listen    {}\n  domains   {}\n  workers   {}\n  policy    {}\n  auth      {auth}\n  \
             location  {location}\n  media     {media}\n  state     {}\n  admin     {admin}\n  metrics   {metrics}",
            listeners.join(", "),
            self.domains.join(", "),
            self.workers,
            self.policy.file.display(),
            self.state_dir.display(),
        )
    }
}

/// `udp 127.0.0.1:5060`
pub fn listener_name(listener: &Listener) -> String {
    format!("{} {}", listener.transport.param_name(), listener.addr)
}

/// What a limit in a file, which is never above its range, is in memory.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
pub(crate) fn make_private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[cfg(test)]
mod tests;
