//! How the store is doing, for who operates the router.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What is wrong with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What happened first; names the place, never a secret.
    pub fault: String,
    /// How long ago.
    pub since: Duration,
    /// Nothing has been loaded from it yet: look-ups know only what was registered meanwhile.
    pub not_loaded: bool,
}

/// Shared by the service, which asks, and by what works for the store, which tells.
#[derive(Clone, Default)]
pub(crate) struct Health(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    fault: Option<(String, Instant)>,
    not_loaded: bool,
}

impl Health {
    /// It takes changes.
    pub(crate) fn works(&self) {
        self.0.lock().fault = None;
    }

    /// It does not; of several faults the first is kept.
    pub(crate) fn fails(&self, fault: &str) {
        let mut state = self.0.lock();
        state.fault.get_or_insert_with(|| (fault.to_owned(), Instant::now()));
    }

    /// What it has is in memory, or not yet.
    pub(crate) fn loaded(&self, is: bool) {
        self.0.lock().not_loaded = !is;
    }

    /// `None`: all is well.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let state = self.0.lock();
        let (fault, since) = match &state.fault {
            Some((fault, at)) => (fault.clone(), at.elapsed()),
            None if state.not_loaded => {
                ("its bindings are being loaded".to_owned(), Duration::ZERO)
            }
            None => return None,
        };
        Some(Trouble { fault, since, not_loaded: state.not_loaded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_is_told_until_it_works_again() {
        let health = Health::default();
        assert_eq!(health.trouble(), None);
        health.fails("no connection");
        health.fails("no connection either");
        assert_eq!(health.trouble().unwrap().fault, "no connection");
        health.works();
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn bindings_that_are_still_being_loaded_are_told() {
        let health = Health::default();
        health.loaded(false);
        health.fails("no connection");
        assert!(health.trouble().unwrap().not_loaded);
        health.works();
        assert!(health.trouble().unwrap().not_loaded);
        health.loaded(true);
        assert_eq!(health.trouble(), None);
    }
}
