//! Changes, failures of the store and its silences in any order, against a model.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers fail by panic

mod common;

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;

use common::*;
use proptest::prelude::*;
use viaduct_engine::{Change, CommitFault, Location as _};
use viaduct_location::{Config, LocationService};

const AORS: [&str; 3] = ["a@x", "b@x", "c@x"];

#[derive(Clone, Debug)]
enum Step {
    /// Change these AoRs from their newest version; `true`: remove.
    Change(BTreeSet<usize>, bool),
    /// Change an AoR from the version it had before its newest change.
    Stale(usize),
    /// Let the store finish what it is at.
    Finish(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let aors = proptest::collection::btree_set(0..AORS.len(), 1..=2);
    prop_oneof![
        5 => (aors, proptest::bool::weighted(0.2))
            .prop_map(|(aors, gone)| Step::Change(aors, gone)),
        1 => (0..AORS.len()).prop_map(Step::Stale),
        4 => proptest::bool::weighted(0.7).prop_map(Step::Finish),
    ]
}

/// A queued commit.
struct Queued {
    entries: Vec<Entry>,
    outcome: Receiver<Outcome>,
    /// Something it builds on has failed.
    doomed: bool,
}

/// What a commit makes of one AoR.
struct Entry {
    aor: usize,
    /// `None`: removed.
    content: Option<u32>,
    /// The AoR has fallen back to what is committed since.
    gone: bool,
}

impl Queued {
    fn changes(&self, aors: &BTreeSet<usize>) -> bool {
        self.entries.iter().any(|entry| aors.contains(&entry.aor))
    }

    /// AoRs that show what this commit, or one after it, makes of them.
    fn showing(&self) -> BTreeSet<usize> {
        self.entries.iter().filter(|entry| !entry.gone).map(|entry| entry.aor).collect()
    }
}

/// The model: commits at the store, commits waiting, and what is committed.
#[derive(Default)]
struct Model {
    committed: [Option<u32>; AORS.len()],
    at_store: Vec<Queued>,
    waiting: Vec<Queued>,
}

impl Model {
    fn latest(&self, aor: usize) -> Option<u32> {
        let mut entries =
            self.at_store.iter().chain(&self.waiting).flat_map(|queued| &queued.entries);
        let newest = entries.rfind(|entry| entry.aor == aor && !entry.gone);
        newest.map_or(self.committed[aor], |entry| entry.content)
    }

    /// The AoRs of a failed commit fall back, and all waiting ones built upon it will fail.
    fn doom(&mut self, failed: &Queued) {
        let fallen = failed.showing();
        for queued in self.waiting.iter_mut().filter(|queued| queued.changes(&fallen)) {
            for entry in queued.entries.iter_mut().filter(|entry| fallen.contains(&entry.aor)) {
                queued.doomed |= !entry.gone;
                entry.gone = true;
            }
        }
    }

    /// Takes the next group as the store thread does: all that waits. Within it, a commit that
    /// touches an AoR of a doomed one before it is doomed as well. Is the store asked?
    fn take(&mut self) -> bool {
        self.at_store = std::mem::take(&mut self.waiting);
        let mut broken = BTreeSet::new();
        for queued in &mut self.at_store {
            queued.doomed |= queued.changes(&broken);
            if queued.doomed {
                broken.extend(queued.showing());
            }
        }
        self.at_store.iter().any(|queued| !queued.doomed)
    }

    fn finish(&mut self, stored: bool) {
        let group = std::mem::take(&mut self.at_store);
        for queued in &group {
            let expected = match (queued.doomed, stored) {
                (true, _) => Err(CommitFault::Conflict),
                (false, true) => Ok(()),
                (false, false) => Err(CommitFault::Store),
            };
            assert_eq!(queued.outcome.recv().unwrap(), expected);
            if expected.is_ok() {
                for entry in &queued.entries {
                    self.committed[entry.aor] = entry.content;
                }
            }
        }
        for failed in group.iter().filter(|queued| queued.doomed || !stored) {
            self.doom(failed);
        }
    }
}

struct Run {
    /// Dropped before the service, whose end waits for the store.
    gate: Gate,
    service: LocationService,
    model: Model,
    next: u32,
    /// Version of each AoR before its newest change.
    earlier: [u64; AORS.len()],
}

impl Run {
    fn change(&mut self, aors: &BTreeSet<usize>, gone: bool) {
        let mut entries = Vec::new();
        let mut changes = Vec::new();
        for aor in aors {
            self.next += 1;
            let based_on = self.service.latest("location", AORS[*aor].as_bytes()).version;
            self.earlier[*aor] = based_on;
            let set = if gone { Default::default() } else { hour(&self.next.to_string()) };
            changes.push(Change { key: key(AORS[*aor]), based_on, set, memory_only: false });
            let content = (!gone).then_some(self.next);
            entries.push(Entry { aor: *aor, content, gone: false });
        }
        let outcome = commit(&self.service, changes);
        self.model.waiting.push(Queued { entries, outcome, doomed: false });
        if self.model.at_store.is_empty() {
            self.enter();
        }
    }

    /// The store thread takes groups until one needs the store, or nothing waits.
    fn enter(&mut self) {
        while !self.model.waiting.is_empty() {
            if self.model.take() {
                self.gate.entered.recv().unwrap();
                return;
            }
            self.model.finish(true);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Change(aors, gone) => self.change(aors, *gone),
            Step::Stale(aor) => {
                let newest = self.service.latest("location", AORS[*aor].as_bytes()).version;
                let based_on = self.earlier[*aor];
                if newest == based_on {
                    return;
                }
                let (key, set) = (key(AORS[*aor]), hour("stale"));
                let change = Change { key, based_on, set, memory_only: false };
                let outcome = commit(&self.service, vec![change]);
                assert_eq!(outcome.try_recv(), Ok(Err(CommitFault::Conflict)));
            }
            Step::Finish(stored) => {
                if !self.model.at_store.is_empty() {
                    let answer = if *stored { Answer::Stored } else { Answer::Failed };
                    self.gate.answers.send(answer).unwrap();
                    self.model.finish(*stored);
                    self.enter();
                }
            }
        }
    }

    fn check(&self) {
        let shown =
            |content: Option<u32>| -> Vec<String> { content.iter().map(u32::to_string).collect() };
        for (index, aor) in AORS.iter().enumerate() {
            assert_eq!(contacts(&self.service, aor), shown(self.model.committed[index]));
            assert_eq!(latest_contacts(&self.service, aor), shown(self.model.latest(index)));
        }
        let latest = (0..AORS.len()).filter(|aor| self.model.latest(*aor).is_some()).count();
        assert_eq!(self.service.counts().bindings, latest);
    }
}

proptest! {
    #[test]
    fn r_g1_any_interleaving_shows_what_the_model_shows(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let (store, gate) = gated();
        let service =
            LocationService::open_with(&Config::default(), Box::new(store), NOW_MS).unwrap();
        let mut run =
            Run { service, gate, model: Model::default(), next: 0, earlier: [u64::MAX; 3] };
        for step in &steps {
            run.step(step);
            run.check();
        }
        // When faults stop, everything ends and nothing is left over.
        while !run.model.at_store.is_empty() {
            run.step(&Step::Finish(true));
        }
        run.check();
        prop_assert_eq!(run.service.counts().aors, run.service.counts().bindings);
        drop(run.gate);
    }
}
