//! The shared table: shards behind locks, one version counter, bounds.
//!
//! Look-ups take one shard's read lock and copy a pointer. A commit holds the locks of its shards
//! while it checks versions, stages and queues, so the order in the queue is the order of versions.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState as Seed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use viaduct_engine::registrar::BindingSet;
use viaduct_engine::{AorKey, Change, CommitFault, Snapshot};

use crate::shard::{Basis, Delta, Lapsed, Shard, Staged, hash_of};
use crate::store::{AsOf, Record, Write};

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
    /// AoRs whose newest bindings the store does not have yet, each once.
    unsaved: Mutex<Vec<AorKey>>,
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
            unsaved: Mutex::new(Vec::new()),
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
        let delta = shard.publish_now(hash, &change.key, &change.set, self.fresh_version());
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

    /// See [`Shard::basis`].
    pub(crate) fn basis(&self, change: &Staged) -> Option<Basis> {
        self.shard(change.hash)?.read().basis(change)
    }

    pub(crate) fn publish(&self, change: &Staged, revision: u64) {
        let delta = self.with_shard(change.hash, |shard| shard.publish(change, revision));
        self.count(delta);
    }

    /// Publishes what the store gets later.
    pub(crate) fn publish_unsaved(&self, change: &Staged) {
        let (delta, new) = self.with_shard(change.hash, |shard| shard.publish_unsaved(change));
        self.count(delta);
        self.note_unsaved(new.then(|| change.key.clone()));
    }

    fn note_unsaved(&self, keys: impl IntoIterator<Item = AorKey>) {
        self.unsaved.lock().extend(keys);
    }

    /// AoRs the store has to get.
    pub(crate) fn unsaved(&self) -> usize {
        self.unsaved.lock().len()
    }

    /// Takes at most so many of them, with what to write; [`Table::saved`] or
    /// [`Table::still_unsaved`] must be told what became of them.
    pub(crate) fn take_unsaved(&self, most: usize) -> Vec<Write> {
        let keys = {
            let mut all = self.unsaved.lock();
            let from = all.len().saturating_sub(most);
            all.split_off(from)
        };
        let write = |(part, key): (usize, AorKey)| {
            let hash = self.hash(&key.table, &key.aor);
            let (set, Basis { revision, base }) = self.shard(hash)?.read().unsaved(hash, &key)?;
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            Some(Write { revision, base, part, ..Write::new(key, set) })
        };
        keys.into_iter().enumerate().filter_map(write).collect()
    }

    /// The store has what was taken, as `revision`.
    pub(crate) fn saved(&self, write: &Write, revision: u64) {
        let hash = self.hash(&write.key.table, &write.key.aor);
        let (delta, more) =
            self.with_shard(hash, |shard| shard.saved(hash, &write.key, &write.set, revision));
        self.count(delta);
        self.note_unsaved(more.then(|| write.key.clone()));
    }

    /// The store does not have what was taken.
    pub(crate) fn still_unsaved(&self, write: &Write) {
        self.note_unsaved([write.key.clone()]);
    }

    /// See [`Shard::adopt`].
    pub(crate) fn adopt(&self, record: Record, as_of: Option<AsOf>) {
        let hash = self.hash(&record.key.table, &record.key.aor);
        let version = || self.fresh_version();
        let delta = self.with_shard(hash, |shard| shard.adopt(hash, record, as_of, version));
        self.count(delta);
    }

    /// Removes what the store had at that revision or before and what is not among these hashes.
    pub(crate) fn keep_only(&self, listed: &HashSet<u64>, as_of: AsOf) {
        let revision = as_of.revision;
        for shard in &self.shards {
            let gone = shard.read().stored_but(listed, revision);
            for (_, key) in gone {
                let gone = Record { key, set: BindingSet::default(), revision, exact: true };
                self.adopt(gone, Some(as_of));
            }
        }
    }

    /// Removals remembered for changes of other routers that are still to come.
    pub(crate) fn removals(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().removals()).fold(0, usize::saturating_add)
    }

    /// See [`Shard::forget_removals`].
    pub(crate) fn forget_removals(&self, revision: u64) {
        for shard in &self.shards {
            shard.write().forget_removals(revision);
        }
    }

    pub(crate) fn roll_back(&self, change: &Staged) {
        let version = self.fresh_version();
        let delta = self.with_shard(change.hash, |shard| shard.roll_back(change, version));
        self.count(delta);
    }

    /// Puts a record of the store into the table, as it is.
    pub(crate) fn load(&self, record: Record) {
        let staged = Staged {
            hash: self.hash(&record.key.table, &record.key.aor),
            key: record.key,
            set: Arc::new(record.set),
            version: self.fresh_version(),
            memory_only: false,
        };
        let delta = self
            .with_shard(staged.hash, |shard| shard.load(&staged, record.revision, record.exact));
        self.count(delta);
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
        self.each(changes, |shard, change| shard.publish(change, 0));
    }

    /// Publishes what the store gets later.
    pub(crate) fn publish_unsaved(&mut self, changes: &[Staged]) {
        let mut new = Vec::new();
        for change in changes {
            let Some(shard) = self.shard(change.hash) else { continue };
            let (delta, is_new) = shard.publish_unsaved(change);
            new.extend(is_new.then(|| change.key.clone()));
            self.table.count(delta);
        }
        self.table.note_unsaved(new);
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
