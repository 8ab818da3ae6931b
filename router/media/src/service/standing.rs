//! How sessions stand that would be forgotten with this process: kept every few seconds, so that a
//! crash costs no peer and only the last counts.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::PoisonError;

use viaduct_engine::Now;

use super::kept::{Journal, Key, encode};
use super::{Service, ms};
use crate::session::{Carrier, LegReport, Report};

/// How often they are kept.
const EVERY_MS: u64 = 2_000;

/// What has been kept: a hash of it, by session.
#[derive(Default)]
pub(super) struct Standing {
    kept: HashMap<u64, u64>,
    next_ms: u64,
    hash: RandomState,
}

impl Standing {
    fn note(&mut self, journal: &dyn Journal, reports: Vec<Report>) {
        let mut gone = std::mem::take(&mut self.kept);
        for report in reports {
            // What only passes is no change.
            let legs = report.legs.map(|leg| LegReport { seen_ms: None, ..leg });
            let value = encode(&legs);
            let hash = self.hash.hash_one(&value);
            if gone.remove(&report.id) != Some(hash) {
                journal.put(Key::Session(report.id), value);
            }
            self.kept.insert(report.id, hash);
        }
        gone.into_keys().for_each(|id| journal.remove(Key::Session(id)));
    }
}

impl Service {
    /// Keeps how sessions stand where it is time, or `at_once`. Workers' orders come in between.
    pub(super) fn note_standing(&self, now: Now, at_once: bool) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if !at_once && ms(now) < standing.next_ms {
            return;
        }
        standing.next_ms = ms(now).saturating_add(EVERY_MS);
        let (journal, reports) = {
            let mut inner = self.lock();
            let Some(journal) = inner.journal.clone() else { return };
            if inner.calls.len() == 0 && standing.kept.is_empty() {
                return;
            }
            (journal, inner.executor.mortal_reports())
        };
        match reports {
            Ok(reports) => standing.note(&*journal, reports),
            Err(error) => tracing::warn!(%error, "how media stand is not kept"),
        }
        journal.put(Key::Alive, encode(&now.unix_ms));
    }
}

/// A report of what was kept.
pub(super) fn report(id: u64, legs: &[LegReport; 2]) -> Report {
    Report { id, carrier: Carrier::UserSpace, legs: legs.clone() }
}
