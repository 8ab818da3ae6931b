//! Location services that stand in for the real one: one that notes what is looked at, and one that
//! knows only what was noted.

use std::sync::Arc;

use parking_lot::Mutex;
use viaduct_engine::registrar::BindingSet;
use viaduct_engine::{Location, Snapshot};

use super::case::{BindingsFact, CaseError};

/// Notes what a run looks at.
pub(crate) struct Tap {
    inner: Arc<dyn Location>,
    seen: Mutex<Vec<BindingsFact>>,
}

/// AoRs noted of one run.
const MOST_SEEN: usize = 32;

impl Tap {
    pub(crate) fn new(inner: Arc<dyn Location>) -> Tap {
        Tap { inner, seen: Mutex::default() }
    }

    pub(crate) fn take(&self) -> Vec<BindingsFact> {
        std::mem::take(&mut self.seen.lock())
    }

    fn note(&self, table: &str, aor: &[u8], set: Option<&BindingSet>) {
        let mut seen = self.seen.lock();
        let fact = BindingsFact::new(table, aor, set);
        if seen.len() < MOST_SEEN && !seen.contains(&fact) {
            seen.push(fact);
        }
    }
}

impl Location for Tap {
    fn get(&self, table: &str, aor: &[u8]) -> Option<Arc<BindingSet>> {
        let set = self.inner.get(table, aor);
        self.note(table, aor, set.as_deref());
        set
    }

    fn latest(&self, table: &str, aor: &[u8]) -> Snapshot {
        let snapshot = self.inner.latest(table, aor);
        self.note(table, aor, snapshot.set.as_deref());
        snapshot
    }
}

/// Knows what was noted. Whoever asks for more is told that there is nothing, and it is remembered.
pub(crate) struct Noted {
    sets: Vec<(String, Vec<u8>, Arc<BindingSet>)>,
    missing: Mutex<bool>,
}

impl Noted {
    pub(crate) fn new(facts: &[BindingsFact]) -> Result<Noted, CaseError> {
        let mut sets = Vec::new();
        for fact in facts {
            sets.push((fact.table.clone(), fact.aor.bytes()?, fact.set()?));
        }
        Ok(Noted { sets, missing: Mutex::new(false) })
    }

    pub(crate) fn was_missing(&self) -> bool {
        *self.missing.lock()
    }
}

impl Location for Noted {
    fn get(&self, table: &str, aor: &[u8]) -> Option<Arc<BindingSet>> {
        let found = self.sets.iter().find(|(t, a, _)| t == table && a == aor);
        if found.is_none() {
            *self.missing.lock() = true;
        }
        found.map(|(.., set)| Arc::clone(set)).filter(|set| !set.bindings.is_empty())
    }

    fn latest(&self, table: &str, aor: &[u8]) -> Snapshot {
        Snapshot { set: self.get(table, aor), ..Snapshot::default() }
    }
}
