//! What workers take up: all versions that are live, and which takes which request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use viaduct_engine::Run;

use crate::scope::Scope;
use crate::version::PolicyVersion;

/// All versions that are live at a time.
pub(crate) struct Live {
    /// Decides what no other does.
    pub(crate) all: Arc<PolicyVersion>,
    /// Those of scopes.
    pub(crate) scopes: Vec<(Scope, Arc<PolicyVersion>)>,
    /// A share of what would go to `all`.
    pub(crate) canary: Option<Canary>,
    /// Runs beside `all`, and takes no effect.
    pub(crate) shadow: Option<Arc<Shadow>>,
    /// Kept loaded for a fallback.
    pub(crate) previous: Vec<Arc<PolicyVersion>>,
}

/// A version that gets a share of the new transactions.
#[derive(Clone)]
pub(crate) struct Canary {
    pub(crate) version: Arc<PolicyVersion>,
    /// Thousandths.
    pub(crate) share: u16,
}

/// A version that runs beside the live one.
pub(crate) struct Shadow {
    pub(crate) version: Arc<PolicyVersion>,
    pub(crate) counts: ShadowCounters,
}

#[derive(Default)]
pub(crate) struct ShadowCounters {
    same: AtomicU64,
    different: AtomicU64,
    failed: AtomicU64,
    undecided: AtomicU64,
    last: Mutex<Option<String>>,
}

/// How a shadow's decisions compare with the live version's.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ShadowCounts {
    /// Same verdict, same effects.
    pub same: u64,
    /// Another verdict, or other effects.
    pub different: u64,
    /// The shadow gave no verdict.
    pub failed: u64,
    /// One of them needs what is not in memory.
    pub undecided: u64,
    /// The last difference, in words.
    pub last: Option<String>,
}

/// What came of one comparison.
pub(crate) enum Compared {
    Same,
    Different(String),
    Failed,
    Undecided,
}

impl ShadowCounters {
    pub(crate) fn count(&self, compared: Compared) {
        let counter = match compared {
            Compared::Same => &self.same,
            Compared::Different(words) => {
                *self.last.lock() = Some(words);
                &self.different
            }
            Compared::Failed => &self.failed,
            Compared::Undecided => &self.undecided,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> ShadowCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShadowCounts {
            same: read(&self.same),
            different: read(&self.different),
            failed: read(&self.failed),
            undecided: read(&self.undecided),
            last: self.last.lock().clone(),
        }
    }
}

impl Live {
    /// One version alone takes every request: the usual case.
    pub(crate) fn is_plain(&self) -> bool {
        self.scopes.is_empty() && self.canary.is_none()
    }

    /// The version a new transaction begins with.
    pub(crate) fn of(&self, run: &Run) -> &Arc<PolicyVersion> {
        if let Some(version) = Scope::of(run, &self.scopes) {
            return version;
        }
        match &self.canary {
            Some(canary) if canary.takes(run) => &canary.version,
            _ => &self.all,
        }
    }

    /// Every version in use, and those that are kept.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Arc<PolicyVersion>> {
        let scopes = self.scopes.iter().map(|(_, version)| version);
        let canary = self.canary.iter().map(|canary| &canary.version);
        let shadow = self.shadow.iter().map(|shadow| &shadow.version);
        [&self.all].into_iter().chain(scopes).chain(canary).chain(shadow).chain(&self.previous)
    }
}

impl Canary {
    /// All requests of one Call-ID begin with the same version, on all workers.
    fn takes(&self, run: &Run) -> bool {
        use std::hash::{DefaultHasher, Hasher};
        let mut hasher = DefaultHasher::new();
        hasher.write(run.message().call_id().unwrap_or_default());
        hasher.finish() % 1000 < u64::from(self.share)
    }
}
