//! The shared table: shards behind locks, one version counter, bounds.
//!
//! Look-ups take one shard's read lock and copy a pointer. A commit holds the locks of its shards
//! while it checks versions, stages and queues, so the order in the queue is the order of versions.

use std::hash::{BuildHasher as _, RandomState as Seed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use parking_lot::{RwLock, RwLockWriteGuard};
use viaduct_engine::registrar::BindingSet;
use viaduct_engine::{AorKey, Change, CommitFault, Snapshot};

use crate::shard::{Delta, Lapsed, Shard, Staged, hash_of};

/// Shards: far more than workers, so that two rarely meet in one.
pub(crate) const SHARDS: usize = 256;
/// AoRs one commit may change.
const MAX_CHANGES: usize = 64;
/// Longest name of a table, bytes.
pub(crate) const MAX_TABLE_BYTES: usize = 255;

/// Bounds of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) aors: usize,
    pub(crate) bindings: usize,
    pub(crate) bindings_per_aor: usize,
}

pub(crate) struct Table {
    hasher: RandomState,
    shards: Box<[RwLock<Shard>]>,
    /// Last version given to a change. One counter for all AoRs: a version never comes back, so a
    /// change computed from an AoR that has been removed since cannot pass.
    versions: AtomicU64,
    aors: AtomicUsize,
    bindings: AtomicUsize,
    limits: Limits,
}

/// The shards a commit has locked.
pub(crate) struct Locked<'a> {
    table: &'a Table,
    guards: Vec<(usize, RwLockWriteGuard<'a, Shard>)>,
}

impl Table {
    pub(crate) fn new(limits: Limits) -> Table {
        // Peers choose AoRs, so where they fall must not be theirs to predict.
        let seed = Seed::new();
        let [a, b, c, d] = [1u64, 2, 3, 4].map(|n| seed.hash_one(n));
        let hasher = RandomState::with_seeds(a, b, c, d);
        let shards = (0..SHARDS).map(|_| RwLock::new(Shard::new(hasher.clone()))).collect();
        Table {
            hasher,
            shards,
            versions: AtomicU64::new(0),
            aors: AtomicUsize::new(0),
            bindings: AtomicUsize::new(0),
            limits,
        }
    }

    pub(crate) fn hash(&self, table: &str, aor: &[u8]) -> u64 {
        hash_of(&self.hasher, table, aor)
    }

    fn shard_index(hash: u64) -> usize {
        // The hash table inside uses the lowest and the highest bits.
        (hash >> 40) as usize % SHARDS
    }

    fn shard(&self, hash: u64) -> Option<&RwLock<Shard>> {
        self.shards.get(Self::shard_index(hash))
    }

    pub(crate) fn get(&self, table: &str, aor: &[u8]) -> Option<Arc<BindingSet>> {
        let hash = self.hash(table, aor);
        self.shard(hash)?.read().committed(hash, table, aor)
    }

    pub(crate) fn latest(&self, table: &str, aor: &[u8]) -> Snapshot {
        let hash = self.hash(table, aor);
        match self.shard(hash) {
            Some(shard) => shard.read().snapshot(hash, table, aor),
            None => Snapshot::default(),
        }
    }

    fn fresh_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Locks all shards of the changes, in one order for everybody.
    pub(crate) fn lock(&self, changes: &[Change]) -> Locked<'_> {
        let index =
            |change: &Change| Self::shard_index(self.hash(&change.key.table, &change.key.aor));
        let mut indexes: Vec<usize> = changes.iter().map(index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let lock = |index: usize| Some((index, self.shards.get(index)?.write()));
        Locked { table: self, guards: indexes.into_iter().filter_map(lock).collect() }
    }

    /// Checks and publishes a change that no store is asked about: what [`Table::lock`] and
    /// [`Locked::check`] do for many, with the shard looked up once.
    pub(crate) fn commit_one(&self, change: &Change) -> Result<(), CommitFault> {
        let AorKey { table, aor } = &change.key;
        let hash = self.hash(table, aor);
        let mut shard = self.shard(hash).ok_or(CommitFault::Conflict)?.write();
        let (version, before) = shard.base(hash, &change.key).unwrap_or((0, 0));
        if version != change.based_on {
            return Err(CommitFault::Conflict);
        }
        let after = change.set.len();
        let aors = usize::from(version == 0 && after > 0);
        if !self.fits(&shard, change) || !self.has_room(aors, after.saturating_sub(before)) {
            return Err(CommitFault::Full);
        }
        let delta = shard.publish(hash, &change.key, &change.set, self.fresh_version());
        drop(shard);
        self.count(delta);
        Ok(())
    }

    /// Is the change of a size the table takes?
    fn fits(&self, shard: &Shard, change: &Change) -> bool {
        change.set.len() <= self.limits.bindings_per_aor
            && change.key.table.len() <= MAX_TABLE_BYTES
            && shard.has_table_room(&change.key.table)
    }

    /// Works on the one shard of a staged change.
    fn with_shard<T: Default>(&self, hash: u64, work: impl FnOnce(&mut Shard) -> T) -> T {
        self.shard(hash).map_or_else(T::default, |shard| work(&mut shard.write()))
    }

    pub(crate) fn is_unbroken(&self, change: &Staged) -> bool {
        self.shard(change.hash).is_some_and(|shard| shard.read().is_unbroken(change))
    }

    pub(crate) fn publish(&self, change: &Staged) {
        let delta = self.with_shard(change.hash, |shard| publish(shard, change));
        self.count(delta);
    }

    pub(crate) fn roll_back(&self, change: &Staged) {
        let version = self.fresh_version();
        let delta = self.with_shard(change.hash, |shard| shard.roll_back(change, version));
        self.count(delta);
    }

    /// Puts a record of the store into the table, as it is.
    pub(crate) fn load(&self, key: AorKey, set: BindingSet) {
        let staged = Staged {
            hash: self.hash(&key.table, &key.aor),
            key,
            set: Arc::new(set),
            version: self.fresh_version(),
            memory_only: true,
        };
        self.publish(&staged);
    }

    /// Expires what is due in one shard; `then` sees it before anybody else can change the shard.
    pub(crate) fn expire_shard(
        &self,
        index: usize,
        unix_ms: u64,
        budget: usize,
        then: impl FnOnce(&[Lapsed]),
    ) -> Vec<Lapsed> {
        let Some(shard) = self.shards.get(index) else { return Vec::new() };
        let mut shard = shard.write();
        let (lapsed, delta) = shard.expire(unix_ms, budget, || self.fresh_version());
        then(&lapsed);
        drop(shard);
        self.count(delta);
        lapsed
    }

    /// All committed sets of one shard; `None` past the last shard.
    pub(crate) fn dump(
        &self,
        index: usize,
        table: Option<&str>,
    ) -> Option<Vec<(AorKey, Arc<BindingSet>)>> {
        Some(self.shards.get(index)?.read().dump(table))
    }

    pub(crate) fn aors(&self) -> usize {
        self.aors.load(Ordering::Relaxed)
    }

    pub(crate) fn bindings(&self) -> usize {
        self.bindings.load(Ordering::Relaxed)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().memory_bytes()).sum()
    }

    /// Waits until every commit that holds a shard now has let it go.
    pub(crate) fn settle(&self) {
        for shard in &self.shards {
            drop(shard.write());
        }
    }

    fn count(&self, delta: Delta) {
        // Counting in wrapping numbers: each delta is taken back exactly.
        if delta.aors != 0 {
            self.aors.fetch_add(delta.aors as usize, Ordering::Relaxed);
        }
        if delta.bindings != 0 {
            self.bindings.fetch_add(delta.bindings as usize, Ordering::Relaxed);
        }
    }

    /// May the table grow by so much? Two commits that ask at once may together pass the limit by
    /// what they add; each is small and the next is refused.
    fn has_room(&self, aors: usize, bindings: usize) -> bool {
        let fits = |now: usize, more: usize, limit: usize| {
            more == 0 || now.checked_add(more).is_some_and(|sum| sum <= limit)
        };
        fits(self.aors(), aors, self.limits.aors)
            && fits(self.bindings(), bindings, self.limits.bindings)
    }
}

fn publish(shard: &mut Shard, change: &Staged) -> Delta {
    shard.publish(change.hash, &change.key, &change.set, change.version)
}

impl Locked<'_> {
    fn shard(&mut self, hash: u64) -> Option<&mut Shard> {
        let index = Table::shard_index(hash);
        let found = self.guards.iter_mut().find(|(locked, _)| *locked == index);
        found.map(|(_, guard)| &mut **guard)
    }

    /// Can all the changes be made? Gives them their versions.
    pub(crate) fn check(&mut self, changes: Vec<Change>) -> Result<Vec<Staged>, CommitFault> {
        if changes.len() > MAX_CHANGES {
            return Err(CommitFault::Full);
        }
        let (mut aors, mut bindings) = (0usize, 0usize);
        let table = self.table;
        let mut all: Vec<Staged> = Vec::with_capacity(changes.len());
        for change in changes {
            let hash = table.hash(&change.key.table, &change.key.aor);
            let Some(shard) = self.shard(hash) else { return Err(CommitFault::Conflict) };
            let (version, before) = shard.base(hash, &change.key).unwrap_or((0, 0));
            let twice = all.iter().any(|earlier| earlier.key == change.key);
            if version != change.based_on || twice {
                return Err(CommitFault::Conflict);
            }
            if !table.fits(shard, &change) {
                return Err(CommitFault::Full);
            }
            let after = change.set.len();
            aors += usize::from(version == 0 && after > 0);
            bindings += after.saturating_sub(before);
            all.push(Staged {
                hash,
                key: change.key,
                set: change.set,
                version: 0,
                memory_only: change.memory_only,
            });
        }
        if !self.table.has_room(aors, bindings) {
            return Err(CommitFault::Full);
        }
        for change in &mut all {
            change.version = self.table.fresh_version();
        }
        Ok(all)
    }

    /// Is a change of any of these AoRs on its way to the store?
    pub(crate) fn any_pending(&mut self, changes: &[Staged]) -> bool {
        changes.iter().any(|change| {
            self.shard(change.hash).is_some_and(|shard| shard.is_pending(change.hash, &change.key))
        })
    }

    pub(crate) fn stage(&mut self, changes: &[Staged]) {
        self.each(changes, Shard::stage);
    }

    pub(crate) fn publish(&mut self, changes: &[Staged]) {
        self.each(changes, publish);
    }

    fn each(&mut self, changes: &[Staged], work: fn(&mut Shard, &Staged) -> Delta) {
        let table = self.table;
        for change in changes {
            if let Some(shard) = self.shard(change.hash) {
                let delta = work(shard, change);
                table.count(delta);
            }
        }
    }
}
