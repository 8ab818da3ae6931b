//! From a commit to the store and back: one queue, one thread, one transaction a group.
//!
//! While one group's transaction waits for the disk, the next group gathers in the queue; so a
//! change costs the latency of a disk flush and the throughput of many.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender};
use viaduct_engine::{Change, CommitFault};

use crate::shard::{Lapsed, Staged};
use crate::store::{Store, Write};
use crate::table::{Locked, Table};

/// Changes one transaction takes at most.
const MAX_GROUP: usize = 4096;

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
        while let Ok(first) = jobs.recv() {
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
            if stop {
                return;
            }
        }
    }

    /// Adds a job to the group. `broken` has the AoRs of commits in this group that cannot be made.
    fn take(&self, job: Job, group: &mut Group, broken: &mut HashSet<u64>) {
        match job {
            Job::Commit(changes, done) => {
                group.changes += changes.len();
                let valid = changes
                    .iter()
                    .all(|change| !broken.contains(&change.hash) && self.table.is_unbroken(change));
                if valid {
                    let stored = changes.iter().filter(|change| !change.memory_only);
                    let write = |c: &Staged| Write::new(c.key.clone(), Arc::clone(&c.set));
                    group.writes.extend(stored.map(write));
                } else {
                    // AoRs that have fallen back already have begun anew.
                    let unbroken = changes.iter().filter(|c| self.table.is_unbroken(c));
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
        let stored = group.writes.is_empty() || self.write(&group.writes);
        // First what succeeded, then what failed: a rollback falls back to what is committed.
        for commit in group.commits.iter().filter(|commit| commit.valid && stored) {
            commit.changes.iter().for_each(|change| self.table.publish(change));
        }
        for commit in group.commits.iter().filter(|commit| !(commit.valid && stored)) {
            commit.changes.iter().for_each(|change| self.table.roll_back(change));
        }
        for commit in group.commits {
            let result = match (commit.valid, stored) {
                (true, true) => Ok(()),
                (true, false) => Err(CommitFault::Store),
                (false, _) => Err(CommitFault::Conflict),
            };
            let done = commit.done;
            if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
                tracing::error!("a commit's completion panicked");
            }
        }
    }

    fn write(&mut self, writes: &[Write]) -> bool {
        // A store that panics on a damaged file must not take the others' commits with it.
        let store = &mut self.store;
        let fault = match catch_unwind(AssertUnwindSafe(|| store.write(writes))) {
            Ok(Ok(())) => {
                self.tally.groups.fetch_add(1, Ordering::Relaxed);
                self.tally.writes.fetch_add(writes.len() as u64, Ordering::Relaxed);
                return true;
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "the store panicked".to_owned(),
        };
        self.tally.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(changes = writes.len(), %fault, "location store: changes refused");
        false
    }
}
