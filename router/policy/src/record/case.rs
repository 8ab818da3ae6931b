//! One recorded run, as a line of JSON.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use viaduct_engine::auth::{Identity, Role};
use viaduct_engine::dispatcher::{DestinationConfig, State};
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::run::{AuthWitness, HttpWitness, RunInputs, Traits};
use viaduct_engine::table::Value;
use viaduct_engine::{AuthFault, ConnId, Flow, Now, Phase, Run, Transport};

use super::http::HttpFact;

/// Format of records; the first line of a file names it.
pub const FORMAT: &str = "viaduct-record-1";

/// A record that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// No JSON of this form.
    #[error("not a recorded case: {0}")]
    Json(String),
    /// A part of it means nothing.
    #[error("`{0}` is no {1}")]
    Part(String, &'static str),
    /// Its message cannot be read.
    #[error("its message cannot be read: {0}")]
    Message(String),
}

/// A message that passed, beside the runs it caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Microseconds since 1970 UTC.
    pub at_us: u64,
    /// It came in; else it went out.
    pub came: bool,
    /// How.
    pub way: Way,
    /// The message, redacted.
    pub message: Bytes,
}

/// One line of a record after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A message.
    Passed(Box<Passed>),
    /// A run.
    Case(Box<Case>),
}

impl Line {
    /// Reads one line.
    pub fn parse(line: &str) -> Result<Line, CaseError> {
        serde_json::from_str(line).map_err(|error| CaseError::Json(error.to_string()))
    }
}

/// First line of a file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`]
    pub format: String,
    /// The router it was recorded at.
    pub setup: Setup,
}

/// What of a router's configuration a run depends on most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Our domains.
    pub domains: Vec<String>,
    /// Networks that are believed.
    pub trusted: Vec<String>,
    /// `udp 192.0.2.1:5060 sip.example.com:5060`: bound, and as others are told.
    pub listeners: Vec<String>,
    /// How it challenges; without users it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSetup>,
}

/// What challenges depend on. What came of checks stands in the cases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthSetup {
    /// Realm of all users; `None`: each domain is one.
    pub realm: Option<String>,
    /// Names, most wanted first.
    pub algorithms: Vec<String>,
    /// `auth-int` is offered.
    pub auth_int: bool,
}

/// A text, or bytes that are none, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bytes {
    /// UTF-8.
    Text(String),
    /// Base64 of anything else.
    Base64(String),
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes::Text(String::new())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        match std::str::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text.to_owned()),
            Err(_) => Bytes::Base64(BASE64_STANDARD.encode(bytes)),
        }
    }
}

impl Bytes {
    /// The bytes.
    pub fn bytes(&self) -> Result<Vec<u8>, CaseError> {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        match self {
            Bytes::Text(text) => Ok(text.clone().into_bytes()),
            Bytes::Base64(text) => {
                BASE64_STANDARD.decode(text).map_err(|error| CaseError::Message(error.to_string()))
            }
        }
    }
}

/// How a message came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// `udp`
    pub transport: String,
    /// Our address.
    pub local: SocketAddr,
    /// Where it came from.
    pub remote: SocketAddr,
}

/// One recorded run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// `on-request`, `on-branch`, `on-reply`, `on-failure`.
    pub phase: String,
    /// Milliseconds since 1970 UTC.
    pub now_ms: u64,
    /// Random number of the run.
    pub seed: u64,
    /// How the message came.
    pub way: Way,
    /// The message, redacted.
    pub message: Bytes,
    /// Facts that were true.
    pub traits: Vec<String>,
    /// Best status in phase on-failure, else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub status: u16,
    /// Variables of the transaction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vars: Vec<(String, String)>,
    /// In phase on-branch: what was stored with the binding the branch goes to.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub attributes: Bytes,
    /// In phase on-reply: the REGISTER, and how it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<(Bytes, Way, bool)>,
    /// Bindings it looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<BindingsFact>,
    /// Checks of credentials, with what came of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auth: Vec<AuthFact>,
    /// HTTP requests, with what came of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpFact>,
    /// Entries of tables it read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableFact>,
    /// Destinations of the sets it used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationFact>,
    /// The media of its dialog, where it asked or ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<super::media::MediaFact>,
    /// Host functions it called, with their texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
    /// Name, version and hash of the policy that decided.
    pub policy: String,
    /// What it decided, in words.
    pub verdict: String,
    /// What it staged, in words.
    pub effects: Vec<String>,
    /// Where it is a file of its own: the router it was recorded at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Setup>,
}

fn is_empty(bytes: &Bytes) -> bool {
    *bytes == Bytes::default()
}

fn is_zero(status: &u16) -> bool {
    *status == 0
}

/// Bindings of an AoR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingsFact {
    /// Table.
    pub table: String,
    /// AoR.
    pub aor: Bytes,
    /// Its bindings.
    pub bindings: Vec<BindingFact>,
}

/// One binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindingFact {
    contact: Bytes,
    contact_params: Bytes,
    path: Bytes,
    received: Bytes,
    call_id: Bytes,
    user_agent: Bytes,
    instance: Bytes,
    #[serde(default)]
    attributes: Bytes,
    cseq: u32,
    q_milli: Option<u16>,
    reg_id: u32,
    methods: Option<u32>,
    expires_ms: u64,
    modified_ms: u64,
    transport: String,
    local: SocketAddr,
    nat: bool,
}

/// A check of credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthFact {
    /// `registrar` or `proxy`.
    pub role: String,
    /// The realm the policy named.
    pub realm: Option<String>,
    /// The user who showed the password: user, realm, To is his, From is his.
    pub user: Option<(String, String, bool, bool)>,
    /// Why there is none: `off`, `no-credentials`, `stale`, `invalid`.
    pub fault: Option<String>,
}

/// An entry of a shared table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFact {
    /// Table.
    pub table: String,
    /// Key.
    pub key: String,
    /// What stood there, where it was a text or a number; rates begin anew in a replay.
    pub value: Option<String>,
    /// It was a number.
    #[serde(default)]
    pub number: bool,
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationFact {
    /// Set.
    pub set: String,
    /// URI.
    pub uri: String,
    /// Weight.
    pub weight: u16,
    /// Priority.
    pub priority: u16,
    /// Attributes.
    pub attributes: String,
    /// It was up.
    pub up: bool,
}

type Trait = (&'static str, fn(&mut Traits) -> &mut bool);

const TRAITS: [Trait; 12] = [
    ("in-dialog", |t| &mut t.in_dialog),
    ("loose-routed", |t| &mut t.loose_routed),
    ("preloaded-route", |t| &mut t.preloaded_route),
    ("uri-is-ours", |t| &mut t.uri_is_ours),
    ("uri-is-router", |t| &mut t.uri_is_router),
    ("from-is-ours", |t| &mut t.from_is_ours),
    ("trusted", |t| &mut t.trusted),
    ("first-hop", |t| &mut t.first_hop),
    ("has-path", |t| &mut t.has_path),
    ("supports-path", |t| &mut t.supports_path),
    ("has-body", |t| &mut t.has_body),
    ("by-received", |t| &mut t.by_received),
];

const PHASES: [(&str, Phase); 4] = [
    ("on-request", Phase::Request),
    ("on-branch", Phase::Branch),
    ("on-reply", Phase::Reply),
    ("on-failure", Phase::Failure),
];

const FAULTS: [(&str, AuthFault); 4] = [
    ("off", AuthFault::Off),
    ("no-credentials", AuthFault::NoCredentials),
    ("stale", AuthFault::Stale),
    ("invalid", AuthFault::Invalid),
];

const TRANSPORTS: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

impl Case {
    /// What goes in, before the run; the rest is filled in after it.
    pub(crate) fn begin(run: &Run, message: &[u8], policy: String) -> Case {
        let inputs = run.inputs();
        let mut traits = inputs.traits;
        let is_true = |(name, of): &Trait| of(&mut traits).then(|| (*name).to_owned());
        let named = PHASES.iter().find(|(_, phase)| *phase == inputs.phase);
        Case {
            phase: named.map_or("", |(name, _)| name).to_owned(),
            now_ms: inputs.now.unix_ms,
            seed: inputs.seed,
            way: way(run.flow()),
            message: message.into(),
            traits: TRAITS.iter().filter_map(is_true).collect(),
            status: inputs.status,
            vars: inputs.vars.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            attributes: Bytes::from(&*inputs.attributes),
            original: inputs.original.map(|(b, flow, t)| (Bytes::from(&*b), way(flow), t)),
            bindings: Vec::new(),
            auth: Vec::new(),
            http: Vec::new(),
            tables: Vec::new(),
            destinations: Vec::new(),
            media: None,
            calls: Vec::new(),
            policy,
            verdict: String::new(),
            effects: Vec::new(),
            setup: None,
        }
    }

    /// Reads one line.
    pub fn parse(line: &str) -> Result<Case, CaseError> {
        serde_json::from_str(line).map_err(|error| CaseError::Json(error.to_string()))
    }

    /// One line.
    pub fn to_line(&self) -> String {
        // Numbers and texts alone: nothing of it can fail to be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What makes the run again.
    pub fn inputs(&self) -> Result<RunInputs, CaseError> {
        let bad = |text: &str, what| CaseError::Part(text.to_owned(), what);
        let phase = PHASES.iter().find(|(name, _)| *name == self.phase);
        let (_, phase) = phase.ok_or_else(|| bad(&self.phase, "phase"))?;
        let mut traits = Traits::default();
        for name in &self.traits {
            let found = TRAITS.iter().find(|(known, _)| known == name);
            *found.ok_or_else(|| bad(name, "fact"))?.1(&mut traits) = true;
        }
        let original = match &self.original {
            Some((bytes, way, trusted)) => Some((bytes.bytes()?.into(), way.flow()?, *trusted)),
            None => None,
        };
        Ok(RunInputs {
            now: Now { mono_us: 0, unix_ms: self.now_ms },
            seed: self.seed,
            traits,
            phase: *phase,
            status: self.status,
            vars: self.vars.iter().map(|(k, v)| ((&**k).into(), (&**v).into())).collect(),
            attributes: self.attributes.bytes()?,
            original,
        })
    }

    /// Checks of credentials as they went.
    pub fn checks(&self) -> Result<Vec<AuthWitness>, CaseError> {
        self.auth.iter().map(AuthFact::witness).collect()
    }

    /// Responses to HTTP requests as they came.
    pub fn responses(&self) -> Result<Vec<HttpWitness>, CaseError> {
        self.http.iter().map(HttpFact::witness).collect()
    }
}

pub(crate) fn way(flow: Flow) -> Way {
    Way {
        transport: flow.transport.param_name().to_owned(),
        local: flow.local,
        remote: flow.remote,
    }
}

fn transport(name: &str) -> Result<Transport, CaseError> {
    let found = TRANSPORTS.into_iter().find(|known| known.param_name() == name);
    found.ok_or_else(|| CaseError::Part(name.to_owned(), "transport"))
}

impl Way {
    /// The flow; connections do not outlive a record.
    pub fn flow(&self) -> Result<Flow, CaseError> {
        let transport = transport(&self.transport)?;
        Ok(Flow { transport, local: self.local, remote: self.remote, conn: ConnId::NONE })
    }
}

impl BindingsFact {
    pub(crate) fn new(table: &str, aor: &[u8], set: Option<&BindingSet>) -> BindingsFact {
        let bindings = set.iter().flat_map(|set| set.bindings.iter()).map(BindingFact::new);
        BindingsFact { table: table.to_owned(), aor: aor.into(), bindings: bindings.collect() }
    }

    pub(crate) fn set(&self) -> Result<Arc<BindingSet>, CaseError> {
        let bindings: Result<Vec<Binding>, _> =
            self.bindings.iter().map(BindingFact::binding).collect();
        Ok(Arc::new(BindingSet { bindings: bindings?.into() }))
    }
}

impl BindingFact {
    fn new(binding: &Binding) -> BindingFact {
        let f = binding.fields();
        BindingFact {
            contact: f.contact.into(),
            contact_params: f.contact_params.into(),
            path: f.path.into(),
            received: f.received.into(),
            call_id: f.call_id.into(),
            user_agent: f.user_agent.into(),
            instance: f.instance.into(),
            attributes: f.attributes.into(),
            cseq: f.cseq,
            q_milli: f.q_milli,
            reg_id: f.reg_id,
            methods: f.methods,
            expires_ms: f.expires_ms,
            modified_ms: f.modified_ms,
            transport: f.transport.param_name().to_owned(),
            local: f.local,
            nat: f.nat,
        }
    }

    fn binding(&self) -> Result<Binding, CaseError> {
        let texts = [
            &self.contact,
            &self.contact_params,
            &self.path,
            &self.received,
            &self.call_id,
            &self.user_agent,
            &self.instance,
            &self.attributes,
        ];
        let mut bytes = Vec::new();
        for text in texts {
            bytes.push(text.bytes()?);
        }
        let [contact, contact_params, path, received, call_id, user_agent, instance, attributes] =
            bytes.as_slice()
        else {
            return Err(CaseError::Part("binding".to_owned(), "binding"));
        };
        Ok(Binding::pack(&BindingFields {
            contact,
            contact_params,
            path,
            received,
            call_id,
            user_agent,
            instance,
            attributes,
            cseq: self.cseq,
            q_milli: self.q_milli,
            reg_id: self.reg_id,
            methods: self.methods,
            expires_ms: self.expires_ms,
            modified_ms: self.modified_ms,
            transport: transport(&self.transport)?,
            local: self.local,
            conn: ConnId::NONE,
            nat: self.nat,
        }))
    }
}

impl AuthFact {
    /// `None` where the check had to ask: the run was made again, and that one is recorded.
    pub(crate) fn new(witness: AuthWitness) -> Option<AuthFact> {
        let role = match witness.role {
            Role::Registrar => "registrar",
            Role::Proxy => "proxy",
        };
        let (user, fault) = match witness.result {
            Ok(Identity { user, realm, is_to, is_from }) => {
                (Some((user.into(), realm.into(), is_to, is_from)), None)
            }
            Err(fault) => {
                let (name, _) = FAULTS.iter().find(|(_, known)| *known == fault)?;
                (None, Some((*name).to_owned()))
            }
        };
        let realm = witness.realm.map(String::from);
        Some(AuthFact { role: role.to_owned(), realm, user, fault })
    }

    fn witness(&self) -> Result<AuthWitness, CaseError> {
        let bad = |text: &str, what| CaseError::Part(text.to_owned(), what);
        let role = match &*self.role {
            "registrar" => Role::Registrar,
            "proxy" => Role::Proxy,
            other => return Err(bad(other, "role")),
        };
        let result = match (&self.user, &self.fault) {
            (Some((user, realm, is_to, is_from)), _) => Ok(Identity {
                user: (&**user).into(),
                realm: (&**realm).into(),
                is_to: *is_to,
                is_from: *is_from,
            }),
            (None, fault) => {
                let fault = fault.as_deref().unwrap_or_default();
                let known = FAULTS.iter().find(|(name, _)| *name == fault);
                Err(known.ok_or_else(|| bad(fault, "fault"))?.1)
            }
        };
        Ok(AuthWitness { role, realm: self.realm.as_deref().map(Box::from), result })
    }
}

impl TableFact {
    pub(crate) fn new(table: &str, key: &str, value: Option<&Value>) -> TableFact {
        let (value, number) = match value {
            Some(Value::Text(text)) => (Some(text.to_string()), false),
            Some(Value::Number(number)) => (Some(number.to_string()), true),
            Some(Value::Rate(_)) | None => (None, false),
        };
        TableFact { table: table.to_owned(), key: key.to_owned(), value, number }
    }
}

impl DestinationFact {
    pub(crate) fn new(config: &DestinationConfig, state: State) -> DestinationFact {
        DestinationFact {
            set: config.set.to_string(),
            uri: config.uri.to_string(),
            weight: config.weight,
            priority: config.priority,
            attributes: config.attributes.to_string(),
            up: state == State::Up,
        }
    }

    pub(crate) fn config(&self) -> DestinationConfig {
        DestinationConfig {
            set: (&*self.set).into(),
            uri: (&*self.uri).into(),
            weight: self.weight,
            priority: self.priority,
            attributes: (&*self.attributes).into(),
        }
    }
}
