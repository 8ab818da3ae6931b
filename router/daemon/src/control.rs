//! What the outside may ask of a running router. The admin API, the signals and the metrics talk to
//! this trait; the wiring of the worker threads implements it, and tests fake it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use viaduct_engine::auth::Secrets;
use viaduct_policy::Scope;
use viaduct_policy::record::Header;

use crate::config::Config;

/// The running router, from outside its workers.
///
/// Every method may block for as long as a commit or a compilation takes, so none is called on a
/// worker or on the admin API's own threads. No method may stop a worker from serving.
pub trait Control: Send + Sync + 'static {
    /// What it is doing.
    fn status(&self) -> Status;

    /// The bindings of an AoR (`user@host`); `None` where it has none.
    fn bindings(&self, table: &str, aor: &str) -> Option<AorEntry>;

    /// AoRs of a table, about so many: begin with cursor 0, go on with [`Page::next`].
    fn page(&self, table: &str, cursor: usize, about: usize) -> Page;

    /// Removes all bindings of an AoR, or the one with this Contact URI; returns how many went.
    /// Returns after the commit.
    fn remove(&self, table: &str, aor: &str, contact: Option<&str>) -> Result<usize, Refusal>;

    /// Versions kept, oldest first.
    fn policies(&self) -> Vec<PolicyEntry>;

    /// Changes which policies are live where. What runs stays where this is refused.
    fn change_policy(&self, order: PolicyOrder) -> Result<PolicyEntry, Refusal>;

    /// A component was longer than any may be, and was not read.
    fn policy_too_large(&self);

    /// What a version is made of.
    fn policy_parts(&self, serial: u64) -> Result<PolicyParts, Refusal>;

    /// Begins to record runs of policies, in place of an earlier recording.
    fn record(&self, request: &RecordRequest) -> Result<Header, Refusal>;

    /// Takes what was recorded since the last call of this; ends the recording where that is
    /// wanted.
    fn take_record(&self, stop: bool) -> Result<RecordPart, Refusal>;

    /// Where users come from and what is known of them.
    fn auth(&self) -> AuthStatus;

    /// Forgets what is cached of a user (name and realm), or of all; how many entries went.
    fn flush_auth(&self, user: Option<(&str, &str)>) -> Result<usize, Refusal>;

    /// Users of the router's own store behind this one (name and realm), by realm and name.
    fn users(&self, after: Option<(&str, &str)>, most: usize) -> Result<Vec<UserEntry>, Refusal>;

    /// Changes a user (name and realm) of the router's own store. Counts at once, and is on disk
    /// when this returns.
    fn change_user(&self, user: (&str, &str), order: UserOrder) -> Result<(), Refusal>;

    /// Drops packets of a source for so many seconds, before they cost anything.
    fn ban(&self, source: IpAddr, seconds: u64) -> Result<(), Refusal>;

    /// Takes packets of a source again; says whether it was banned.
    fn unban(&self, source: IpAddr) -> Result<bool, Refusal>;

    /// Who is banned.
    fn bans(&self) -> Result<Vec<BanEntry>, Refusal>;

    /// Calls whose media are relayed, the oldest first.
    fn media_calls(&self) -> Result<Vec<MediaCall>, Refusal>;

    /// Those with this Call-ID.
    fn media_call(&self, call_id: &str) -> Result<Vec<MediaCall>, Refusal>;

    /// Ends the media of those with this Call-ID; how many. Their SIP goes on.
    fn kill_media(&self, call_id: &str) -> Result<usize, Refusal>;

    /// Destinations of dispatcher sets, set by set.
    fn destinations(&self) -> Vec<DestinationEntry>;

    /// Sets the state of a destination. Only `disabled` stays whatever its probes and the policies
    /// say; the others count until the next sign.
    fn set_destination(
        &self,
        set: &str,
        uri: &str,
        state: DestinationState,
    ) -> Result<DestinationEntry, Refusal>;

    /// Takes up a configuration that differs only where no restart is needed (see
    /// [`Config::reloaded`]), and reads path keys and users again.
    fn reload(&self, config: &Config) -> Result<(), Refusal>;

    /// Has every worker turned its loop since the last call of this? The watchdog asks.
    fn is_alive(&self) -> bool;

    /// Takes no new connections, serves what is under way until it has ended or `grace` has
    /// passed, then ends the workers and closes the store. Returns when all is over; what was
    /// still under way is counted. Further calls return at once.
    fn drain(&self, grace: Duration) -> usize;

    /// Ends the wait of a `drain` under way.
    fn hurry(&self);
}

/// Why the router refused an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// What was sent is no good: the manifest, the component, the configuration.
    #[error("{0}")]
    Invalid(String),
    /// It does not fit what is there now.
    #[error("{0}")]
    Conflict(String),
    /// The router could not: store, disk.
    #[error("{0}")]
    Failed(String),
}

/// A change of what policies are live where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyOrder {
    /// Check a component, store it, make it live in a scope.
    Deploy(Vec<u8>, Scope),
    /// Make the version live that was live in the scope before.
    Rollback(Scope),
    /// Make a version of the list live in a scope.
    Activate(u64, Scope),
    /// Let nothing change the version of a scope; or let it be changed again.
    Pin(Scope, bool),
    /// Take the policy of a scope away.
    Withdraw(Scope),
    /// Give a component this share of new transactions, thousandths.
    Canary(Vec<u8>, u16),
    /// Make the canary live.
    Promote,
    /// End the canary.
    StopCanary,
    /// Run a component beside the live one.
    Shadow(Vec<u8>),
    /// End the shadow.
    StopShadow,
}

/// `POST /v1/record`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordRequest {
    /// Methods; none: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Host of the Request-URI or From; none: all.
    #[serde(default)]
    pub domain: Option<String>,
    /// Share of the Call-IDs, thousandths, 1 to 1000.
    pub share: u16,
    /// Call-ID, or user of Request-URI, From or To; none: all.
    #[serde(default)]
    pub party: Option<String>,
    /// Keep bodies.
    #[serde(default)]
    pub bodies: bool,
    /// Keep the messages that pass, too.
    #[serde(default)]
    pub messages: bool,
    /// Most cases, 1 to 1,000,000.
    pub cases: u64,
    /// It ends by itself after so long, 1 to 86,400 s.
    pub seconds: u64,
}

/// `GET /v1/record`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPart {
    /// One case a line.
    pub cases: Vec<String>,
    /// More can come.
    pub more: bool,
    /// Cases that were lost, as nobody took them in time.
    pub lost: u64,
}

/// `GET /v1/policy/{serial}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyParts {
    /// `policy.toml`
    pub manifest: String,
    /// Host interfaces it imports.
    pub imports: Vec<String>,
    /// Size of the component.
    pub bytes: usize,
    /// SHA-256 of the component, its first hexadecimal digits.
    pub hash: String,
}

/// How the decisions of the shadow compare with those of the live version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowEntry {
    /// Decided alike.
    pub same: u64,
    /// Decided otherwise.
    pub different: u64,
    /// The shadow failed.
    pub failed: u64,
    /// Not compared: a fact was not in memory.
    pub undecided: u64,
    /// The last difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// `GET /v1/status`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Since the start, seconds.
    pub uptime_s: u64,
    /// A drain is under way.
    pub draining: bool,
    /// `udp 127.0.0.1:5060`
    pub listeners: Vec<String>,
    /// How packets come in: `kernel sockets`, `xdp copy on eth0, 2 queues`.
    pub packets: String,
    /// Worker threads.
    pub workers: usize,
    /// Version new transactions begin with, `registrar 1.0.0`.
    pub policy: String,
    /// Server transactions now, all workers together.
    pub transactions: u64,
    /// Open connections.
    pub connections: u64,
    /// AoRs in memory.
    pub aors: u64,
    /// Bindings in memory.
    pub bindings: u64,
    /// Store of the location service: `write-through`, `memory`.
    pub location: String,
    /// What relays media, and why it is not the kernel; absent: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<String>,
    /// What is wrong with the store, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_trouble: Option<String>,
}

/// One ban of `GET /v1/ban`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanEntry {
    /// An address.
    pub source: String,
    /// How long it lasts yet, seconds.
    pub seconds: u64,
}

/// A change of the router's own users.
#[derive(Clone, Debug)]
pub enum UserOrder {
    /// One who is not there yet.
    Add(Secrets),
    /// Other secrets for one who is there.
    Replace(Secrets),
    /// One less.
    Remove,
}

/// One user of `GET /v1/user`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEntry {
    /// User name.
    pub user: String,
    /// Realm.
    pub realm: String,
    /// Those he can answer a challenge of.
    pub algorithms: Vec<String>,
}

/// One call of `GET /v1/media`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MediaCall {
    /// Call-ID.
    pub call_id: String,
    /// Tag of who called.
    pub caller_tag: String,
    /// Tag of who was called; empty: nobody has answered.
    pub callee_tag: String,
    /// Since its first offer, seconds.
    pub age_s: u64,
    /// An offer was answered.
    pub answered: bool,
    /// The media node that has it; absent: this router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Streams that are relayed; of a call on a node in a list: as the node told last.
    pub streams: Vec<MediaStream>,
}

/// One stream of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MediaStream {
    /// `audio`, `video`...
    pub kind: String,
    /// Where it is carried: `xdp`, `kernel`, `user space`, `node`.
    #[serde(default)]
    pub carrier: String,
    /// Who called.
    pub caller: MediaLeg,
    /// Who was called.
    pub callee: MediaLeg,
}

/// One side of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MediaLeg {
    /// Our address that receives its RTP.
    pub local: String,
    /// Where it is; empty: not known.
    pub peer: String,
    /// That is settled.
    pub locked: bool,
    /// Packets it sent that were relayed.
    pub packets: u64,
    /// Octets of UDP payload in them.
    pub octets: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// RTP packets that never came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Jitter, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_us: Option<u32>,
    /// Mean opinion score, estimated, 1 to 4.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos: Option<f64>,
}

/// Whether requests are sent to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DestinationState {
    /// Yes.
    Up,
    /// No: it does not answer.
    Down,
    /// No: an operator says so.
    Disabled,
}

impl fmt::Display for DestinationState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            DestinationState::Up => "up",
            DestinationState::Down => "down",
            DestinationState::Disabled => "disabled",
        })
    }
}

impl FromStr for DestinationState {
    type Err = String;

    fn from_str(text: &str) -> Result<DestinationState, String> {
        match text {
            "up" => Ok(DestinationState::Up),
            "down" => Ok(DestinationState::Down),
            "disabled" => Ok(DestinationState::Disabled),
            other => Err(format!("{other:?} is no state; allowed: up, down, disabled")),
        }
    }
}

/// One destination of `GET /v1/destinations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationEntry {
    /// Its set.
    pub set: String,
    /// SIP URI.
    pub uri: String,
    /// Whether requests are sent there.
    pub state: DestinationState,
    /// Signs in a row against its state: of death while it is up, of life while it is down.
    pub signs: u32,
    /// Status of the answer to the last probe; 0: there was none. Absent: it has not been probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<u16>,
    /// How long that answer took, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u32>,
    /// Share.
    pub weight: u16,
    /// Order of preference.
    pub priority: u16,
    /// Text for the policy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attributes: String,
}

/// `GET /v1/auth`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthStatus {
    /// Users are configured, so policies can authenticate.
    pub on: bool,
    /// Users of the file.
    pub file_users: u64,
    /// Users of the router's own store, where there is one and it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_users: Option<u64>,
    /// The database, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Users of store and database in the cache.
    pub cached_users: u64,
    /// Names in the cache that nobody has.
    pub cached_absent: u64,
    /// Users being asked for.
    pub under_way: u64,
    /// Questions to store and database since the start.
    pub asked: u64,
    /// Of them, those without an answer.
    pub failed: u64,
}

/// One AoR of `GET /v1/location`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AorEntry {
    /// `user@host`
    pub aor: String,
    /// In the order of their registration.
    pub bindings: Vec<BindingEntry>,
}

/// One binding, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingEntry {
    /// Contact URI.
    pub contact: String,
    /// Seconds until it expires.
    pub expires_s: u64,
    /// Priority, thousandths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_milli: Option<u16>,
    /// Path, as it will stand in Route.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Where the REGISTER came from, where that matters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub received: String,
    /// `+sip.instance`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// User-Agent of the last REGISTER.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// Call-ID of the last REGISTER.
    pub call_id: String,
    /// CSeq of the last REGISTER.
    pub cseq: u32,
    /// `udp`, `tcp`
    pub transport: String,
    /// `reg-id`; 0: none.
    #[serde(default)]
    pub reg_id: u32,
    /// How long its contact took to answer the last ping, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u32>,
    /// What the policy stored with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attributes: String,
}

/// Part of the location service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// AoRs, in no order that means anything.
    pub entries: Vec<AorEntry>,
    /// Go on from here; absent: that was all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<usize>,
}

/// One version of `GET /v1/policy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEntry {
    /// Number of the version, from 1 in order of first deployment.
    pub serial: u64,
    /// Of the manifest.
    pub name: String,
    /// Of the manifest.
    pub version: String,
    /// SHA-256 of the component, its first hexadecimal digits.
    pub hash: String,
    /// New transactions begin with it.
    pub live: bool,
    /// A rollback would make it live.
    pub next_rollback: bool,
    /// In memory: live, kept as fallback, or held by transactions under way.
    pub loaded: bool,
    /// Runs since it was loaded.
    pub runs: u64,
    /// Of them, those that gave no verdict.
    pub failures: u64,
    /// What its last failed run said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Scopes in which it is live, beside all: `domain:example.com`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// It is pinned.
    #[serde(default)]
    pub pinned: bool,
    /// Its share of new transactions as the canary, thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u16>,
    /// It runs beside the live one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowEntry>,
    /// Why it was rolled back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
