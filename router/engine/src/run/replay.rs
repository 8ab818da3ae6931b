//! What a run was told by the world, kept for records; and runs that are made again from one.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{Head, Original, Run, Traits};
use crate::auth::{AuthFault, Identity, Role};
use crate::flow::Flow;
use crate::hook::Phase;
use crate::http::{HttpFault, HttpMethod, HttpRequest, HttpResult};
use crate::location::Location;
use crate::media::CallView;
use crate::settings::Settings;
use crate::table::Value;
use crate::time::Now;

/// What a run was told, apart from the bindings it looked at: those are seen by whoever stands in
/// for its location service ([`Run::swap_location`]).
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// Checks of credentials.
    pub auth: Vec<AuthWitness>,
    /// Entries of tables it read: table, key, what stood there.
    pub tables: Vec<(Box<str>, Box<str>, Option<Value>)>,
    /// Host functions it called, with their texts.
    pub calls: Vec<String>,
    /// Names of the dispatcher sets it used.
    pub sets: Vec<Box<str>>,
    /// How the media of its dialog stood, where it asked or ordered; the inner `None`: they were not
    /// relayed.
    pub media: Option<Option<CallView>>,
    /// Responses to HTTP requests, in the order it got them.
    pub http: Vec<HttpWitness>,
    /// What is asked is answered from `auth` and `http`, and nothing is noted.
    replay: bool,
    /// In a replay: something was asked that the record does not hold.
    pub missing: bool,
}

/// One check of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthWitness {
    /// As what the router asked.
    pub role: Role,
    /// The realm the policy named.
    pub realm: Option<Box<str>>,
    /// What came of it.
    pub result: Result<Identity, AuthFault>,
}

/// One response to an HTTP request. What the request was is told by its method, its URL, and a
/// digest of all of it: headers and bodies may hold what a record has no business with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpWitness {
    /// Method.
    pub method: HttpMethod,
    /// URL.
    pub url: Box<str>,
    /// [`HttpWitness::digest`] of the request; `None`: any with that method and URL.
    pub digest: Option<Box<str>>,
    /// What came of it.
    pub result: HttpResult,
}

impl HttpWitness {
    /// Tells requests apart: 16 hexadecimal digits of a SHA-256.
    pub fn digest(request: &HttpRequest) -> Box<str> {
        let mut hasher = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(request.method.name().as_bytes());
        part(request.url().as_bytes());
        for (name, value) in &request.headers {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        part(&request.body);
        let digest = hasher.finalize();
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }

    fn is_of(&self, request: &HttpRequest) -> bool {
        self.method == request.method
            && *self.url == *request.url()
            && self.digest.as_ref().is_none_or(|known| *known == HttpWitness::digest(request))
    }
}

/// What makes a run beside its message, settings and location service.
#[derive(Clone, Debug)]
pub struct RunInputs {
    /// When it was.
    pub now: Now,
    /// Random number of the run.
    pub seed: u64,
    /// Facts.
    pub traits: Traits,
    /// Phase.
    pub phase: Phase,
    /// Best status, in phase failure; else 0.
    pub status: u16,
    /// Variables of the transaction.
    pub vars: Vec<(Box<str>, Box<str>)>,
    /// In phase branch: what is stored with the binding the branch goes to.
    pub attributes: Vec<u8>,
    /// In phase reply: the REGISTER the response belongs to, how it came, and whether from a
    /// trusted peer.
    pub original: Option<(Box<[u8]>, Flow, bool)>,
}

impl Run {
    /// A run made again. The message must scan; an original that does not is left out.
    pub fn again(
        settings: Arc<Settings>,
        location: Arc<dyn Location>,
        flow: Flow,
        bytes: &[u8],
        inputs: RunInputs,
    ) -> Result<Box<Run>, viaduct_message::Fault> {
        let mut run = Run::new(settings, location, flow);
        let bounds = run.settings.bounds.message;
        run.head.scan(bytes, &bounds)?;
        run.bytes.extend_from_slice(bytes);
        run.now = inputs.now;
        run.seed = inputs.seed;
        run.traits = inputs.traits;
        run.phase = inputs.phase;
        run.status = inputs.status;
        run.vars = inputs.vars;
        run.attributes = inputs.attributes;
        run.original = inputs.original.and_then(|(bytes, flow, trusted)| {
            let mut head = Head::new();
            head.scan(&bytes, &bounds).ok()?;
            Some(Box::new(Original { bytes, head, flow, trusted }))
        });
        run.rehearsal = true;
        Ok(Box::new(run))
    }

    /// What would make this run again.
    pub fn inputs(&self) -> RunInputs {
        let original = self.original.as_ref();
        RunInputs {
            now: self.now,
            seed: self.seed,
            traits: self.traits,
            phase: self.phase,
            status: self.status,
            vars: self.vars.clone(),
            attributes: self.attributes.clone(),
            original: original.map(|o| (o.bytes.clone(), o.flow, o.trusted)),
        }
    }

    /// Where it looks bindings up.
    pub fn location(&self) -> Arc<dyn Location> {
        Arc::clone(&self.location)
    }

    /// Its settings.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Puts another location service in the place of its own, which is given back.
    pub fn swap_location(&mut self, other: Arc<dyn Location>) -> Arc<dyn Location> {
        std::mem::replace(&mut self.location, other)
    }

    /// From now on it is noted what the run is told.
    pub fn watch(&mut self) {
        self.witness = Some(Box::default());
    }

    /// Is it noted what the run is told?
    pub fn is_watched(&self) -> bool {
        self.witness.is_some()
    }

    /// Notes a call of a host function, for whoever looks on. At most 100 of a run.
    pub fn note_call(&mut self, name: &str, texts: &[&str]) {
        const MOST_CALLS: usize = 100;
        const MOST_TEXT_CHARS: usize = 80;
        let Some(witness) = self.noting().filter(|w| w.calls.len() < MOST_CALLS) else { return };
        let short = |text: &&str| {
            let short: String = text.chars().take(MOST_TEXT_CHARS).collect();
            format!("{short:?}")
        };
        let texts: Vec<String> = texts.iter().map(short).collect();
        witness.calls.push(format!("{name}({})", texts.join(", ")));
    }

    /// Checks of credentials and HTTP requests are answered so; of the same ones the first counts.
    pub fn answer_from(&mut self, auth: Vec<AuthWitness>, http: Vec<HttpWitness>) {
        let witness = Witness { auth, http, replay: true, ..Witness::default() };
        self.witness = Some(Box::new(witness));
    }

    /// Ends [`Run::watch`] or [`Run::answer_from`].
    pub fn take_witness(&mut self) -> Option<Witness> {
        self.witness.take().map(|witness| *witness)
    }

    /// What a check of credentials gave when this run was recorded; `None`: it is to be made.
    pub(super) fn recorded_check(
        &mut self,
        role: Role,
        realm: Option<&str>,
    ) -> Option<Result<Identity, AuthFault>> {
        let witness = self.witness.as_deref_mut().filter(|witness| witness.replay)?;
        let same = |known: &&AuthWitness| known.role == role && known.realm.as_deref() == realm;
        match witness.auth.iter().find(same) {
            Some(known) => Some(known.result.clone()),
            None => {
                witness.missing = true;
                // A router without users would have said so, whoever asked.
                let off = self.settings.auth.is_none();
                Some(Err(if off { AuthFault::Off } else { AuthFault::NoCredentials }))
            }
        }
    }

    pub(super) fn note_check(
        &mut self,
        role: Role,
        realm: Option<&str>,
        result: &Result<Identity, AuthFault>,
    ) {
        if let Some(witness) = self.noting() {
            let (realm, result) = (realm.map(Box::from), result.clone());
            witness.auth.push(AuthWitness { role, realm, result });
        }
    }

    /// What a request got when this run was recorded; `None`: nothing is replayed.
    pub(super) fn recorded_http(&mut self, request: &HttpRequest) -> Option<HttpResult> {
        let witness = self.witness.as_deref_mut().filter(|witness| witness.replay)?;
        match witness.http.iter().find(|known| known.is_of(request)) {
            Some(known) => Some(known.result.clone()),
            None => {
                witness.missing = true;
                Some(Err(HttpFault::Unreachable))
            }
        }
    }

    pub(super) fn note_http(&mut self, request: &HttpRequest, result: &HttpResult) {
        if let Some(witness) = self.noting() {
            let (method, url) = (request.method, request.url().into());
            let digest = Some(HttpWitness::digest(request));
            witness.http.push(HttpWitness { method, url, digest, result: result.clone() });
        }
    }

    pub(super) fn note_table(&mut self, table: &str, key: &str) {
        if self.witness.is_none() {
            return;
        }
        let value = self.settings.shared.tables.get(table, key, self.now.unix_ms);
        if let Some(witness) = self.noting() {
            witness.tables.push((table.into(), key.into(), value));
        }
    }

    pub(super) fn note_set(&mut self, set: &str) {
        if let Some(witness) = self.noting()
            && !witness.sets.iter().any(|known| **known == *set)
        {
            witness.sets.push(set.into());
        }
    }

    pub(super) fn note_media(&mut self, call: Option<&CallView>) {
        if let Some(witness) = self.noting() {
            witness.media = Some(call.cloned().or(witness.media.take().flatten()));
        }
    }

    fn noting(&mut self) -> Option<&mut Witness> {
        self.witness.as_deref_mut().filter(|witness| !witness.replay)
    }
}
