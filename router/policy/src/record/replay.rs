//! Runs a version over recorded cases.

use std::sync::Arc;

use viaduct_engine::dispatcher::{Dispatcher, State, Thresholds};
use viaduct_engine::media::Media;
use viaduct_engine::table::{TableAction, TableChange, Tables};
use viaduct_engine::{Policy, Run, Settings, Shared};

use super::case::{Case, CaseError};
use super::session::kept;
use super::tap::Noted;
use crate::words::verdict_in_words;
use crate::worker::PolicyHost;

/// How a case goes with the version that is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What it decides.
    pub verdict: String,
    /// What it stages.
    pub effects: Vec<String>,
    /// Both as recorded.
    pub same: bool,
    /// It asked for what the record does not hold, and was told that there is nothing: the outcome
    /// may be another in the router.
    pub missing: bool,
}

/// A version and the settings its runs are made with.
pub struct Replay<'a> {
    host: PolicyHost,
    settings: &'a Settings,
}

impl<'a> Replay<'a> {
    /// The live version of a catalog.
    pub fn new(host: PolicyHost, settings: &'a Settings) -> Replay<'a> {
        Replay { host, settings }
    }

    /// Makes a run again.
    pub fn run(&mut self, case: &Case) -> Result<Replayed, CaseError> {
        let inputs = case.inputs()?;
        let phase = inputs.phase;
        let noted = Arc::new(Noted::new(&case.bindings)?);
        let settings = Settings { shared: shared(case), ..self.settings.clone() };
        let bytes = case.message.bytes()?;
        let location = Arc::<Noted>::clone(&noted);
        let mut run = Run::again(Arc::new(settings), location, case.way.flow()?, &bytes, inputs)
            .map_err(|fault| CaseError::Message(fault.to_string()))?;
        run.answer_from(case.checks()?, case.responses()?);
        let version = self.host.current();
        let wants = self.host.wants(&version, phase);
        let (mut run, verdict) = match wants {
            true => self.host.decide(&version, phase, run),
            // A phase the version does not want goes on as the RFC says.
            false => (run, Ok(viaduct_engine::Verdict::Continue)),
        };
        let verdict = match verdict {
            Ok(verdict) => verdict_in_words(&verdict),
            Err(failure) => format!("failed ({:?}), answered {}", failure.kind, failure.status),
        };
        let effects = kept(&run.effects);
        let asked = run.take_witness().is_some_and(|witness| witness.missing);
        let same = verdict == case.verdict && effects == case.effects;
        Ok(Replayed { verdict, effects, same, missing: asked || noted.was_missing() })
    }
}

/// What policies share, as it was.
fn shared(case: &Case) -> Shared {
    let tables = Tables::default();
    for fact in &case.tables {
        let Some(value) = &fact.value else { continue };
        let action = match value.parse() {
            Ok(by) if fact.number => TableAction::Add { by, expires_ms: u64::MAX },
            _ => TableAction::Set { value: (&**value).into(), expires_ms: u64::MAX },
        };
        let (table, key) = ((&*fact.table).into(), (&*fact.key).into());
        tables.apply(&TableChange { table, key, action }, case.now_ms);
    }
    let configs = case.destinations.iter().map(|fact| fact.config());
    let dispatcher = Dispatcher::new(configs, Thresholds::default());
    for fact in case.destinations.iter().filter(|fact| !fact.up) {
        if let Some(found) = dispatcher.set(&fact.set).and_then(|set| set.find(&fact.uri)) {
            found.set_state(State::Down);
        }
    }
    let media = case.media.clone().map(|fact| Arc::new(fact) as Arc<dyn Media>);
    Shared { tables: Arc::new(tables), dispatcher: Arc::new(dispatcher), media }
}
