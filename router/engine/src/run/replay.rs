//! What a run was told by the world, kept for records; and runs that are made again from one.

use std::sync::Arc;

use super::{Head, Original, Run, Traits};
use crate::auth::{AuthFault, Identity, Role};
use crate::flow::Flow;
use crate::hook::Phase;
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
    /// The checks are answered from `auth`, and nothing is noted.
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

    /// Checks of credentials are answered so, in the order of the list.
    pub fn answer_checks(&mut self, auth: Vec<AuthWitness>) {
        let witness = Witness { auth, replay: true, ..Witness::default() };
        self.witness = Some(Box::new(witness));
    }

    /// Ends [`Run::watch`] or [`Run::answer_checks`].
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
                Some(Err(AuthFault::NoCredentials))
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
