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
    /// Let the store decide on what it is at: what waits follows, where it is a pipeline.
    Decide,
    /// Let the store finish what it is at.
    Finish(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let aors = proptest::collection::btree_set(0..AORS.len(), 1..=2);
    prop_oneof![
        5 => (aors, proptest::bool::weighted(0.2))
            .prop_map(|(aors, gone)| Step::Change(aors, gone)),
        1 => (0..AORS.len()).prop_map(Step::Stale),
        3 => Just(Step::Decide),
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

/// The model: commits at the store, those that follow without a gap, commits waiting, and what is
/// committed.
#[derive(Default)]
struct Model {
    committed: [Option<u32>; AORS.len()],
    at_store: Vec<Queued>,
    following: Vec<Queued>,
    waiting: Vec<Queued>,
    /// The store has decided on what is at it.
    decided: bool,
}

impl Model {
    fn latest(&self, aor: usize) -> Option<u32> {
        let all = self.at_store.iter().chain(&self.following).chain(&self.waiting);
        let mut entries = all.flat_map(|queued| &queued.entries);
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

    /// Takes the next group as the store thread does: all that waits. Is the store asked?
    fn take(&mut self) -> bool {
        self.at_store = std::mem::take(&mut self.waiting);
        self.decided = false;
        are_written(&mut self.at_store)
    }

    /// Decides: what waits follows, up to the first that changes what is under way. Is the store
    /// asked?
    fn follow(&mut self) -> bool {
        self.decided = true;
        let entries = self.at_store.iter().flat_map(|queued| &queued.entries);
        let under_way: BTreeSet<usize> = entries.map(|entry| entry.aor).collect();
        let changes = |queued: &Queued| queued.changes(&under_way);
        let most = self.waiting.iter().position(changes).unwrap_or(self.waiting.len());
        self.following = self.waiting.drain(..most).collect();
        are_written(&mut self.following)
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

/// Within a group, a commit that touches an AoR of a doomed one before it is doomed as well. Is there
/// any left?
fn are_written(group: &mut [Queued]) -> bool {
    let mut broken = BTreeSet::new();
    for queued in group.iter_mut() {
        queued.doomed |= queued.changes(&broken);
        if queued.doomed {
            broken.extend(queued.showing());
        }
    }
    group.iter().any(|queued| !queued.doomed)
}

struct Run {
    /// Dropped before the service, whose end waits for the store.
    gate: Gate,
    service: LocationService,
    model: Model,
    next: u32,
    /// Version of each AoR before its newest change.
    earlier: [u64; AORS.len()],
    is_pipeline: bool,
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

    fn decide(&mut self) {
        if self.is_pipeline && !self.model.at_store.is_empty() && !self.model.decided {
            let follows = self.model.follow();
            self.gate.decide(true);
            assert_eq!(self.gate.entered.try_recv().is_ok(), follows);
        }
    }

    fn finish(&mut self, stored: bool) {
        if stored {
            // A pipeline decides first.
            self.decide();
        }
        if self.is_pipeline && !self.model.decided {
            self.gate.decide(false);
        }
        self.gate.answers.send(if stored { Answer::Stored } else { Answer::Failed }).unwrap();
        self.model.finish(stored);
        self.model.at_store = std::mem::take(&mut self.model.following);
        self.model.decided = false;
        if self.model.at_store.iter().any(|queued| !queued.doomed) {
            return;
        }
        self.model.finish(true);
        self.enter();
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
            Step::Decide => self.decide(),
            Step::Finish(stored) => {
                if !self.model.at_store.is_empty() {
                    self.finish(*stored);
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

fn run(steps: &[Step], is_pipeline: bool) {
    let (store, gate) = if is_pipeline { gated_pipeline() } else { gated() };
    let service = LocationService::open_with(&Config::default(), Box::new(store), NOW_MS).unwrap();
    let (model, earlier) = (Model::default(), [u64::MAX; AORS.len()]);
    let mut run = Run { service, gate, model, next: 0, earlier, is_pipeline };
    for step in steps {
        run.step(step);
        run.check();
    }
    // When faults stop, everything ends and nothing is left over.
    while !run.model.at_store.is_empty() {
        run.step(&Step::Finish(true));
    }
    run.check();
    assert_eq!(run.service.counts().aors, run.service.counts().bindings);
    drop(run.gate);
}

proptest! {
    #[test]
    fn r_g1_any_interleaving_shows_what_the_model_shows(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(&steps, false);
    }

    #[test]
    fn r_g1_any_interleaving_of_groups_that_follow_each_other_shows_what_the_model_shows(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(&steps, true);
    }
}
