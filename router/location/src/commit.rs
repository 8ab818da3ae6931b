//! From a commit to the queue of what is to be stored; `committer` takes it from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::Sender;
use viaduct_engine::{Change, CommitFault};

use crate::shard::{Lapsed, Staged};
use crate::store::Write;
use crate::table::{Locked, Table};

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
