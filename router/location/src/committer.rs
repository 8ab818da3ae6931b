//! The store thread: one transaction a group of what is queued.
//!
//! While one group waits for the disk, the next gathers in the queue; so a change costs the latency
//! of a disk flush and the throughput of many. A store that is a pipeline has the next group before
//! the disk is done with this one, and does not stand still between them.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use viaduct_engine::CommitFault;

use crate::commit::{Done, Job, Tally};
use crate::health::Health;
use crate::shard::{Basis, Staged};
use crate::store::{Store, StoreError, Write, Written};
use crate::table::Table;

/// Changes one transaction takes at most.
const MAX_GROUP: usize = 4096;

/// How often what was acknowledged without the store is offered to it again.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How often that is tried at the end, where other routers come first.
const LAST_ROUNDS: usize = 8;

/// The store thread.
pub(crate) struct Committer {
    pub(crate) table: Arc<Table>,
    pub(crate) store: Box<dyn Store>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) health: Health,
    /// How long a change may wait that was acknowledged at once; `None`: none is.
    pub(crate) write_back: Option<Duration>,
    /// A change the store cannot take is acknowledged all the same and stored later.
    pub(crate) accept_when_down: bool,
}

/// A commit taken from the queue.
struct Taken {
    changes: Vec<Staged>,
    done: Done,
    /// Nothing it builds on has failed.
    valid: bool,
}

/// What one transaction is made of.
#[derive(Default)]
struct Group {
    commits: Vec<Taken>,
    /// Empty as well where a pipeline has them.
    writes: Vec<Write>,
    /// How many writes it is made of.
    size: usize,
    changes: usize,
    /// Something in it has expired.
    forgets: bool,
    stop: bool,
}

impl Group {
    /// Hashes of the AoRs that commits in it change, be they made or not.
    fn aors(&self) -> HashSet<u64> {
        self.commits.iter().flat_map(|commit| &commit.changes).map(|change| change.hash).collect()
    }
}

/// The queue, and what was taken from it too soon.
struct Jobs<'a> {
    queue: &'a Receiver<Job>,
    held: Option<Job>,
}

impl Jobs<'_> {
    /// Waits for the next one, until `due` at most.
    fn next(&mut self, due: Option<Instant>) -> Result<Job, RecvTimeoutError> {
        match (self.held.take(), due) {
            (Some(job), _) => Ok(job),
            (None, Some(due)) => self.queue.recv_deadline(due),
            (None, None) => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// The next one, where there is one.
    fn next_now(&mut self) -> Option<Job> {
        self.held.take().or_else(|| self.queue.try_recv().ok())
    }
}

impl Committer {
    /// Works until [`Job::Stop`] or until all senders are gone.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        let interval = self.write_back.or(self.accept_when_down.then_some(CATCH_UP));
        let mut due = interval.map(|interval| Instant::now() + interval);
        let mut jobs = Jobs { queue, held: None };
        loop {
            let stop = match jobs.next(due) {
                Ok(first) => self.work(first, &mut jobs, due),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if stop {
                // What is refused was merged meanwhile, and this is its last chance.
                (0..LAST_ROUNDS).take_while(|_| self.save()).for_each(drop);
                return;
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                self.save();
                due = interval.map(|interval| Instant::now() + interval);
            }
        }
    }

    /// Makes a group of what is queued, and others for as long as they can follow without a gap, but
    /// not beyond `due`; was it the last?
    fn work(&mut self, first: Job, jobs: &mut Jobs<'_>, due: Option<Instant>) -> bool {
        jobs.held = Some(first);
        let mut group = self.gather(jobs, |_| true);
        loop {
            let is_due = due.is_some_and(|due| due <= Instant::now());
            let next = if is_due { None } else { self.follow(&group, jobs) };
            let (changes, stop) = (group.changes, group.stop);
            self.finish(group);
            self.tally.queued.fetch_sub(changes, Ordering::AcqRel);
            match next {
                Some(next) => group = next,
                None => return stop,
            }
        }
    }

    /// Hands a group to the store, where that is a pipeline.
    fn begin(&mut self, group: &mut Group) {
        group.size = group.writes.len();
        if let Some(pipeline) = self.store.pipeline().filter(|_| group.size > 0) {
            pipeline.begin(std::mem::take(&mut group.writes));
        }
    }

    /// Begins the group behind one that waits for the disk only. What builds on that, and all behind
    /// it in the queue, has to wait.
    fn follow(&mut self, group: &Group, jobs: &mut Jobs<'_>) -> Option<Group> {
        if group.size == 0 || group.forgets || group.stop || !self.store.pipeline()?.decided() {
            return None;
        }
        let under_way = group.aors();
        let fits = |job: &Job| match job {
            Job::Commit(changes, _) => changes.iter().all(|c| !under_way.contains(&c.hash)),
            Job::Forget(_) | Job::Stop => false,
        };
        Some(self.gather(jobs, fits)).filter(|next| next.changes > 0)
    }

    /// Makes a group of what is queued, up to the first that does not fit, and begins it.
    fn gather(&mut self, jobs: &mut Jobs<'_>, fits: impl Fn(&Job) -> bool) -> Group {
        let (mut group, mut broken) = (Group::default(), HashSet::new());
        while group.changes < MAX_GROUP
            && !group.stop
            && let Some(job) = jobs.next_now()
        {
            if !fits(&job) {
                jobs.held = Some(job);
                break;
            }
            self.take(job, &mut group, &mut broken);
        }
        self.begin(&mut group);
        group
    }

    /// Adds a job to the group. `broken` has the AoRs of commits in this group that cannot be made.
    fn take(&self, job: Job, group: &mut Group, broken: &mut HashSet<u64>) {
        match job {
            Job::Commit(changes, done) => {
                group.changes += changes.len();
                let part = u32::try_from(group.commits.len()).unwrap_or(u32::MAX);
                let basis: Option<Vec<Basis>> = changes
                    .iter()
                    .map(|c| self.table.basis(c).filter(|_| !broken.contains(&c.hash)))
                    .collect();
                let valid = basis.is_some();
                if let Some(basis) = basis {
                    let stored = changes.iter().zip(basis).filter(|(c, _)| !c.memory_only);
                    group.writes.extend(stored.map(|(change, Basis { revision, base })| {
                        let write = Write::new(change.key.clone(), Arc::clone(&change.set));
                        Write { revision, base, part, ..write }
                    }));
                } else {
                    // AoRs that have fallen back already have begun anew.
                    let unbroken = changes.iter().filter(|c| self.table.basis(c).is_some());
                    broken.extend(unbroken.map(|change| change.hash));
                }
                group.commits.push(Taken { changes, done, valid });
            }
            Job::Forget(writes) => {
                group.changes += writes.len();
                group.writes.extend(writes);
                group.forgets = true;
            }
            Job::Stop => group.stop = true,
        }
    }

    fn finish(&mut self, group: Group) {
        let written = match group.size {
            0 => Some(Written::default()),
            // A pipeline has them already.
            size if group.writes.is_empty() => self.ask(size, |store| match store.pipeline() {
                Some(pipeline) => pipeline.end(),
                None => Ok(Written::default()),
            }),
            size => self.ask(size, |store| store.write(&group.writes)),
        };
        let accepted = written.is_none() && self.accept_when_down;
        let outcome = |part: usize, commit: &Taken| match &written {
            _ if !commit.valid => Err(CommitFault::Conflict),
            None if accepted => Ok(()),
            None => Err(CommitFault::Store),
            Some(written) if is_refused(written, part) => Err(CommitFault::Conflict),
            Some(_) => Ok(()),
        };
        let outcomes: Vec<_> =
            group.commits.iter().enumerate().map(|(part, commit)| outcome(part, commit)).collect();
        let revision = written.as_ref().map_or(0, |written| written.revision);
        // First what succeeded, then what failed: a rollback falls back to what is committed.
        let ended = || group.commits.iter().zip(&outcomes);
        for change in ended().filter(|(_, o)| o.is_ok()).flat_map(|(commit, _)| &commit.changes) {
            match accepted && !change.memory_only {
                true => self.table.publish_unsaved(change),
                false if change.memory_only => self.table.publish(change, 0),
                false => self.table.publish(change, revision),
            }
        }
        for change in ended().filter(|(_, o)| o.is_err()).flat_map(|(commit, _)| &commit.changes) {
            self.table.roll_back(change);
        }
        for record in written.into_iter().flat_map(|written| written.current) {
            self.table.adopt(record, None);
        }
        for (commit, outcome) in group.commits.into_iter().zip(outcomes) {
            let done = commit.done;
            if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
                tracing::error!("a commit's completion panicked");
            }
        }
    }

    /// Stores what was acknowledged without it. Was some of it refused, so that another round may
    /// store it?
    fn save(&mut self) -> bool {
        let mut any_refused = false;
        let mut left = self.table.unsaved();
        while left > 0 {
            let writes = self.table.take_unsaved(MAX_GROUP);
            left = left.saturating_sub(MAX_GROUP);
            if writes.is_empty() {
                continue;
            }
            let written = self.ask(writes.len(), |store| store.write(&writes));
            let Some(written) = written else {
                writes.iter().for_each(|write| self.table.still_unsaved(write));
                return false;
            };
            any_refused |= !written.refused.is_empty();
            for write in &writes {
                match is_refused(&written, write.part as usize) {
                    true => self.table.still_unsaved(write),
                    false => self.table.saved(write, written.revision),
                }
            }
            // What was refused is merged and goes with the next round.
            written.current.into_iter().for_each(|record| self.table.adopt(record, None));
        }
        any_refused
    }

    /// Asks the store for something that `changes` depend on.
    fn ask(
        &mut self,
        changes: usize,
        what: impl FnOnce(&mut dyn Store) -> Result<Written, StoreError>,
    ) -> Option<Written> {
        // A store that panics on a damaged file must not take the others' commits with it.
        let store = &mut *self.store;
        let fault = match catch_unwind(AssertUnwindSafe(|| what(store))) {
            Ok(Ok(written)) => {
                self.tally.groups.fetch_add(1, Ordering::Relaxed);
                self.tally.writes.fetch_add(changes as u64, Ordering::Relaxed);
                self.health.works();
                return Some(written);
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "the store panicked".to_owned(),
        };
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
        self.health.fails(&fault);
        tracing::error!(changes, %fault, "location store: changes not stored");
        None
    }
}

fn is_refused(written: &Written, part: usize) -> bool {
    written.refused.iter().any(|refused| *refused as usize == part)
}
