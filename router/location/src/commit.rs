//! From a commit to the store and back: one queue, one thread, one transaction a group.
//!
//! While one group's transaction waits for the disk, the next group gathers in the queue; so a
//! change costs the latency of a disk flush and the throughput of many.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use viaduct_engine::{Change, CommitFault};

use crate::health::Health;
use crate::shard::{Basis, Lapsed, Staged};
use crate::store::{Store, Write, Written};
use crate::table::{Locked, Table};

/// Changes one transaction takes at most.
const MAX_GROUP: usize = 4096;

/// How often what was acknowledged without the store is offered to it again.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How often that is tried at the end, where other routers come first.
const LAST_ROUNDS: usize = 8;

/// Told the outcome of a commit, once.
pub(crate) type Done = Box<dyn FnOnce(Result<(), CommitFault>) + Send>;

/// One item of the queue.
pub(crate) enum Job {
    /// A commit: staged, and told the outcome.
    Commit(Vec<Staged>, Done),
    /// What has expired: gone from memory already. Nobody waits, and where it is lost the next
    /// start drops it.
    Forget(Vec<Write>),
    /// Everything before this is to be stored, then the thread ends.
    Stop,
}

/// Numbers of the store thread, for metrics.
#[derive(Default)]
pub(crate) struct Tally {
    /// Changes queued or being written.
    pub(crate) queued: AtomicUsize,
    /// Transactions that succeeded.
    pub(crate) groups: AtomicU64,
    /// Changes in them.
    pub(crate) writes: AtomicU64,
    /// Transactions that failed.
    pub(crate) failures: AtomicU64,
}

/// The way to the store.
pub(crate) struct Queue {
    pub(crate) sender: Sender<Job>,
    /// Changes that may wait.
    pub(crate) limit: usize,
    pub(crate) tally: Arc<Tally>,
    pub(crate) closed: AtomicBool,
    /// Changes are acknowledged at once and stored later.
    pub(crate) write_back: bool,
    /// What has expired is told the store: it does not find out by itself.
    pub(crate) forgets: bool,
}

impl Queue {
    /// Takes places for so many changes; `false` where there are not enough, or it is closed.
    fn reserve(&self, changes: usize) -> bool {
        let before = self.tally.queued.fetch_add(changes, Ordering::AcqRel);
        let fits = before.saturating_add(changes) <= self.limit;
        if fits && !self.closed.load(Ordering::Acquire) {
            return true;
        }
        self.tally.queued.fetch_sub(changes, Ordering::AcqRel);
        false
    }

    /// Queues what has expired; `false` where there is no room, and the store keeps it until the
    /// next start.
    pub(crate) fn forget(&self, lapsed: &[Lapsed]) -> bool {
        if !self.forgets {
            return true;
        }
        if !self.reserve(lapsed.len()) {
            return false;
        }
        let write = |lapsed: &Lapsed| Write::new(lapsed.key.clone(), Arc::clone(&lapsed.after));
        self.sender.send(Job::Forget(lapsed.iter().map(write).collect())).is_ok()
    }
}

/// What became of a commit at once.
pub(crate) enum Begun {
    /// It waits for the store.
    Queued,
    /// It is decided; nobody was asked for a [`Done`].
    Decided(Result<(), CommitFault>),
    /// The store thread is gone.
    Lost(Done),
}

/// Checks, stages and queues changes; publishes them where no store is asked. `done` is made only
/// where the changes are queued.
pub(crate) fn begin(
    table: &Table,
    queue: Option<&Queue>,
    changes: Vec<Change>,
    done: impl FnOnce() -> Done,
) -> Begun {
    let mut locked = table.lock(&changes);
    let staged = match locked.check(changes) {
        Ok(staged) => staged,
        Err(fault) => return Begun::Decided(Err(fault)),
    };
    let to_store = staged.iter().any(|change| !change.memory_only);
    match queue {
        Some(queue) if to_store && queue.write_back => {
            if queue.closed.load(Ordering::Acquire) {
                return Begun::Decided(Err(CommitFault::Store));
            }
            locked.publish_unsaved(&staged);
            Begun::Decided(Ok(()))
        }
        // What follows a change under way keeps its place behind it, stored or not.
        Some(queue) if to_store || locked.any_pending(&staged) => {
            enqueue(&mut locked, queue, staged, done)
        }
        _ => {
            locked.publish(&staged);
            Begun::Decided(Ok(()))
        }
    }
}

fn enqueue(
    locked: &mut Locked<'_>,
    queue: &Queue,
    staged: Vec<Staged>,
    done: impl FnOnce() -> Done,
) -> Begun {
    if !queue.reserve(staged.len()) {
        return Begun::Decided(Err(CommitFault::Store));
    }
    locked.stage(&staged);
    // Under the shards' locks: the order of the queue is the order of versions.
    match queue.sender.send(Job::Commit(staged, done())) {
        Ok(()) => Begun::Queued,
        Err(refused) => match refused.into_inner() {
            // What was staged stays invisible to look-ups.
            Job::Commit(_, done) => Begun::Lost(done),
            Job::Forget(_) | Job::Stop => Begun::Queued,
        },
    }
}

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
    writes: Vec<Write>,
    changes: usize,
    stop: bool,
}

impl Committer {
    /// Works until [`Job::Stop`] or until all senders are gone.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        let interval = self.write_back.or(self.accept_when_down.then_some(CATCH_UP));
        let mut due = interval.map(|interval| Instant::now() + interval);
        loop {
            let first = match due {
                Some(due) => jobs.recv_deadline(due),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let stop = match first {
                Ok(first) => self.work(first, jobs),
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

    /// Makes one group of what is queued; was it the last?
    fn work(&mut self, first: Job, jobs: &Receiver<Job>) -> bool {
        let mut group = Group::default();
        let mut broken = HashSet::new();
        self.take(first, &mut group, &mut broken);
        while group.changes < MAX_GROUP && !group.stop {
            let Ok(job) = jobs.try_recv() else { break };
            self.take(job, &mut group, &mut broken);
        }
        let (changes, stop) = (group.changes, group.stop);
        self.finish(group);
        self.tally.queued.fetch_sub(changes, Ordering::AcqRel);
        stop
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
            }
            Job::Stop => group.stop = true,
        }
    }

    fn finish(&mut self, group: Group) {
        let written = match group.writes.is_empty() {
            true => Some(Written::default()),
            false => self.write(&group.writes),
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
            let Some(written) = self.write(&writes) else {
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

    fn write(&mut self, writes: &[Write]) -> Option<Written> {
        // A store that panics on a damaged file must not take the others' commits with it.
        let store = &mut self.store;
        let fault = match catch_unwind(AssertUnwindSafe(|| store.write(writes))) {
            Ok(Ok(written)) => {
                self.tally.groups.fetch_add(1, Ordering::Relaxed);
                self.tally.writes.fetch_add(writes.len() as u64, Ordering::Relaxed);
                self.health.works();
                return Some(written);
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "the store panicked".to_owned(),
        };
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
        self.health.fails(&fault);
        tracing::error!(changes = writes.len(), %fault, "location store: changes not stored");
        None
    }
}

fn is_refused(written: &Written, part: usize) -> bool {
    written.refused.iter().any(|refused| *refused as usize == part)
}
