//! One shard of the table: the AoRs whose hash falls to it, and when they expire.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;
use viaduct_engine::registrar::BindingSet;
use viaduct_engine::{AorKey, Snapshot};

use crate::merge::{are_stored_alike, merge};
use crate::store::{AsOf, Record};

/// Tables one shard can tell apart; policies name one or two.
const MAX_TABLES: usize = 256;

/// An AoR as its slot keeps it: beside the rest where it is short, since a look elsewhere in memory costs
/// a refresh more than most of what is done with it.
type SlotAor = SmallVec<[u8; 32]>;

/// Everything known of one AoR.
pub(crate) struct Slot {
    aor: SlotAor,
    /// What look-ups see. Never an empty set.
    committed: Option<Arc<BindingSet>>,
    /// What waits for the store. There exactly while changes of this AoR are on their way.
    pending: Option<Box<Pending>>,
    /// Where look-ups see what the store does not have yet.
    unsaved: Option<Box<Unsaved>>,
    /// Of the newest change, staged or committed.
    version: u64,
    /// Of the store's record this builds on; 0: it has none, or counts none.
    revision: u64,
    /// What the store has at that revision is known: `unsaved.stored`, or else what is committed.
    exact: bool,
    /// The second under which it stands in the expiry index, at or before its next expiry; 0: not
    /// in it.
    due_s: u32,
    table: u16,
}

struct Pending {
    /// Version of the first change of this unbroken row: changes staged earlier have failed.
    chain_start: u64,
    /// The newest staged set; empty where it removes the AoR.
    set: Arc<BindingSet>,
}

struct Unsaved {
    /// What the store has.
    stored: Arc<BindingSet>,
}

impl Slot {
    fn empty(table: u16, aor: &[u8]) -> Slot {
        Slot {
            aor: SlotAor::from_slice(aor),
            committed: None,
            pending: None,
            unsaved: None,
            version: 0,
            revision: 0,
            exact: false,
            due_s: 0,
            table,
        }
    }

    fn is_needed(&self) -> bool {
        self.committed.is_some() || self.pending.is_some() || self.unsaved.is_some()
    }

    fn set_committed(&mut self, set: &Arc<BindingSet>) {
        self.committed = (!set.is_empty()).then(|| Arc::clone(set));
    }

    fn committed_set(&self) -> Arc<BindingSet> {
        self.committed.clone().unwrap_or_default()
    }

    /// What the store has, as far as is known.
    fn stored_set(&self) -> Arc<BindingSet> {
        match &self.unsaved {
            Some(unsaved) => Arc::clone(&unsaved.stored),
            None => self.committed_set(),
        }
    }

    /// What a change of it builds on.
    fn basis(&self) -> Basis {
        let base = (self.exact && self.revision > 0).then(|| self.stored_set());
        // What it has nothing of it may have deleted, revision and all.
        let has_none = base.as_ref().is_some_and(|base| base.is_empty());
        Basis { revision: if has_none { 0 } else { self.revision }, base }
    }

    /// Once `set` is committed, is what the store has known as well as before?
    fn still_holds(&self, set: &BindingSet) -> bool {
        self.unsaved.is_some() || are_stored_alike(&self.committed_set(), set)
    }

    fn latest(&self) -> Option<&Arc<BindingSet>> {
        self.pending.as_ref().map(|pending| &pending.set).or(self.committed.as_ref())
    }

    fn latest_len(&self) -> usize {
        self.latest().map_or(0, |set| set.len())
    }

    /// Memory of the slot with all it owns, the allocator's share not counted.
    fn memory_bytes(&self) -> usize {
        let committed = self.committed.as_ref().map_or(0, |set| set.memory_bytes());
        let pending = self
            .pending
            .as_ref()
            .map_or(0, |pending| size_of::<Pending>() + pending.set.memory_bytes());
        let unsaved = self.unsaved.as_ref().map_or(0, |u| size_of::<Unsaved>() + u.memory_bytes());
        // One byte is the hash table's own mark of the slot.
        let aor = if self.aor.spilled() { self.aor.len() } else { 0 };
        size_of::<Slot>() + 1 + aor + committed + pending + unsaved
    }
}

impl Unsaved {
    fn memory_bytes(&self) -> usize {
        self.stored.memory_bytes()
    }
}

/// What a mutation did to the sizes the whole table counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Delta {
    pub(crate) aors: isize,
    pub(crate) bindings: isize,
}

/// What the store has of an AoR.
pub(crate) struct Basis {
    /// As which revision; 0: nothing, or it counts none.
    pub(crate) revision: u64,
    /// What that is, where it is known.
    pub(crate) base: Option<Arc<BindingSet>>,
}

/// A change that has been staged, on its way to the store.
pub(crate) struct Staged {
    pub(crate) hash: u64,
    pub(crate) key: AorKey,
    pub(crate) set: Arc<BindingSet>,
    pub(crate) version: u64,
    pub(crate) memory_only: bool,
}

/// What an AoR has lost by time.
pub(crate) struct Lapsed {
    pub(crate) key: AorKey,
    pub(crate) before: Arc<BindingSet>,
    /// What is left, possibly nothing.
    pub(crate) after: Arc<BindingSet>,
}

pub(crate) struct Shard {
    hasher: RandomState,
    tables: Vec<Arc<str>>,
    slots: HashTable<Slot>,
    /// (second, hash) of each AoR once.
    due: BTreeSet<(u32, u64)>,
    /// Revisions of removals, by hash, until no older change can come any more.
    removed: HashMap<u64, u64>,
    memory_bytes: usize,
}

/// Hash of a key; the same hasher in all shards.
pub(crate) fn hash_of(hasher: &RandomState, table: &str, aor: &[u8]) -> u64 {
    hasher.hash_one((table, aor))
}

/// The first full second at which a binding that expires then is gone.
fn second_after(unix_ms: u64) -> u32 {
    // 0 means "not indexed"; what expires after 2106 does not.
    u32::try_from(unix_ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

impl Shard {
    pub(crate) fn new(hasher: RandomState) -> Shard {
        Shard {
            hasher,
            tables: Vec::new(),
            slots: HashTable::new(),
            due: BTreeSet::new(),
            removed: HashMap::new(),
            memory_bytes: 0,
        }
    }

    fn find(&self, hash: u64, table: &str, aor: &[u8]) -> Option<&Slot> {
        let tables = &self.tables;
        self.slots.find(hash, |slot| {
            *slot.aor == *aor && tables.get(usize::from(slot.table)).is_some_and(|t| **t == *table)
        })
    }

    pub(crate) fn committed(&self, hash: u64, table: &str, aor: &[u8]) -> Option<Arc<BindingSet>> {
        self.find(hash, table, aor)?.committed.clone()
    }

    pub(crate) fn snapshot(&self, hash: u64, table: &str, aor: &[u8]) -> Snapshot {
        let Some(slot) = self.find(hash, table, aor) else { return Snapshot::default() };
        Snapshot {
            version: slot.version,
            set: slot.latest().cloned(),
            pending: slot.pending.is_some(),
        }
    }

    /// Version and number of bindings a change would start from; (0, 0) where there is no slot.
    pub(crate) fn base(&self, hash: u64, key: &AorKey) -> Option<(u64, usize)> {
        self.find(hash, &key.table, &key.aor).map(|slot| (slot.version, slot.latest_len()))
    }

    pub(crate) fn is_pending(&self, hash: u64, key: &AorKey) -> bool {
        self.find(hash, &key.table, &key.aor).is_some_and(|slot| slot.pending.is_some())
    }

    /// Is there room for the name of one more table, where it is new?
    pub(crate) fn has_table_room(&self, table: &str) -> bool {
        self.tables.len() < MAX_TABLES || self.tables.iter().any(|known| **known == *table)
    }

    fn table_number(&mut self, table: &Arc<str>) -> u16 {
        let known = self.tables.iter().position(|known| **known == **table);
        let number = known.unwrap_or_else(|| {
            self.tables.push(Arc::clone(table));
            self.tables.len() - 1
        });
        // `has_table_room` has kept it small.
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    /// Lets `change` work on the slot of the key, makes one where there is none, and removes it
    /// where nothing is left in it. Keeps memory and expiry index right.
    fn with_slot(&mut self, hash: u64, key: &AorKey, change: impl FnOnce(&mut Slot)) -> Delta {
        let number = self.table_number(&key.table);
        let (hasher, tables) = (&self.hasher, &self.tables);
        let same = |slot: &Slot| slot.table == number && *slot.aor == *key.aor;
        let entry = self.slots.entry(hash, same, |slot| {
            let table = tables.get(usize::from(slot.table)).map_or("", |table| table);
            hash_of(hasher, table, &slot.aor)
        });
        let existed = matches!(entry, Entry::Occupied(_));
        let mut entry = entry.or_insert_with(|| Slot::empty(number, &key.aor));
        let slot = entry.get_mut();
        let (bytes_before, len_before, old_due_s) = match existed {
            true => (slot.memory_bytes(), slot.latest_len(), slot.due_s),
            false => (0, 0, 0),
        };
        change(slot);
        let stays = slot.is_needed();
        let new_due_s = if stays { slot.wanted_due_s() } else { 0 };
        slot.due_s = new_due_s;
        let (bytes_after, len_after) = match stays {
            true => (slot.memory_bytes(), slot.latest_len()),
            false => (0, 0),
        };
        if !stays {
            entry.remove();
        }
        self.memory_bytes = self.memory_bytes.saturating_sub(bytes_before) + bytes_after;
        self.move_due(hash, old_due_s, new_due_s);
        Delta {
            aors: isize::from(stays) - isize::from(existed),
            bindings: len_after.wrapping_sub(len_before) as isize,
        }
    }

    fn move_due(&mut self, hash: u64, old_s: u32, new_s: u32) {
        if old_s == new_s {
            return;
        }
        // Another AoR of the same hash may be due in the same second.
        if old_s != 0 && self.slots.find(hash, |slot| slot.due_s == old_s).is_none() {
            self.due.remove(&(old_s, hash));
        }
        if new_s != 0 {
            self.due.insert((new_s, hash));
        }
    }

    /// Makes the change the newest, unseen by look-ups.
    pub(crate) fn stage(&mut self, change: &Staged) -> Delta {
        self.with_slot(change.hash, &change.key, |slot| {
            let chain_start =
                slot.pending.as_ref().map_or(change.version, |pending| pending.chain_start);
            let set = Arc::clone(&change.set);
            slot.pending = Some(Box::new(Pending { chain_start, set }));
            slot.version = change.version;
        })
    }

    /// What the change is based on; `None` where something it builds on has failed.
    pub(crate) fn basis(&self, change: &Staged) -> Option<Basis> {
        let slot = self.find(change.hash, &change.key.table, &change.key.aor)?;
        let pending = slot.pending.as_ref()?;
        (change.version >= pending.chain_start).then(|| slot.basis())
    }

    /// The change, where there is no store: look-ups see it from now on.
    pub(crate) fn publish_now(
        &mut self,
        hash: u64,
        key: &AorKey,
        set: &Arc<BindingSet>,
        version: u64,
    ) -> Delta {
        self.with_slot(hash, key, |slot| {
            slot.set_committed(set);
            slot.version = version;
        })
    }

    /// The newest revision known of an AoR, be it of its removal.
    fn known_revision(&self, hash: u64, key: &AorKey) -> u64 {
        match self.find(hash, &key.table, &key.aor) {
            Some(slot) => slot.revision,
            None => self.removed.get(&hash).copied().unwrap_or(0),
        }
    }

    /// Remembers a removal by its revision, so that an older change that comes late does not bring
    /// the record back.
    fn note_removal(&mut self, hash: u64, key: &AorKey, revision: u64) {
        if revision > 0 && self.find(hash, &key.table, &key.aor).is_none() {
            let noted = self.removed.entry(hash).or_default();
            *noted = revision.max(*noted);
        }
    }

    /// Removals that are remembered.
    pub(crate) fn removals(&self) -> usize {
        self.removed.len()
    }

    /// No change up to this revision comes any more.
    pub(crate) fn forget_removals(&mut self, revision: u64) {
        self.removed.retain(|_, noted| *noted > revision);
        if self.removed.is_empty() {
            self.removed.shrink_to_fit();
        }
    }

    /// The store has the change, as `revision` (0 where it need not have it, or counts none):
    /// look-ups see it from now on, unless they see a newer one of another router already.
    pub(crate) fn publish(&mut self, change: &Staged, revision: u64) -> Delta {
        let is_newest = revision == 0 || self.known_revision(change.hash, &change.key) <= revision;
        let delta = self.with_slot(change.hash, &change.key, |slot| {
            if is_newest {
                // A ping latency, which no store keeps, is nothing the store has not.
                slot.exact = match change.memory_only {
                    false => revision > 0,
                    true => slot.exact && slot.still_holds(&change.set),
                };
                slot.set_committed(&change.set);
            }
            if is_newest && !change.memory_only {
                slot.revision = slot.revision.max(revision);
                slot.unsaved = None;
            }
            if slot.version <= change.version {
                slot.version = change.version;
                slot.pending = None;
            }
        });
        self.note_removal(change.hash, &change.key, revision);
        delta
    }

    /// What the store has, at the start: see [`Record::exact`].
    pub(crate) fn load(&mut self, change: &Staged, revision: u64, exact: bool) -> Delta {
        let delta = self.publish(change, revision);
        if !exact {
            self.with_slot(change.hash, &change.key, |slot| slot.exact = false);
        }
        delta
    }

    /// Look-ups see the change from now on, and the store gets it later. Is the AoR new among those
    /// the store has to get?
    pub(crate) fn publish_unsaved(&mut self, change: &Staged) -> (Delta, bool) {
        let mut is_new = false;
        let delta = self.with_slot(change.hash, &change.key, |slot| {
            is_new = slot.unsaved.is_none();
            if is_new {
                slot.unsaved = Some(Box::new(Unsaved { stored: slot.committed_set() }));
            }
            slot.set_committed(&change.set);
            if slot.version <= change.version {
                slot.version = change.version;
                slot.pending = None;
            }
        });
        (delta, is_new)
    }

    /// What the store has to get of an AoR, and what that builds on.
    pub(crate) fn unsaved(&self, hash: u64, key: &AorKey) -> Option<(Arc<BindingSet>, Basis)> {
        let slot = self.find(hash, &key.table, &key.aor)?;
        slot.unsaved.as_ref()?;
        Some((slot.committed_set(), slot.basis()))
    }

    /// The store has got it. Is there more for it already?
    pub(crate) fn saved(
        &mut self,
        hash: u64,
        key: &AorKey,
        set: &Arc<BindingSet>,
        revision: u64,
    ) -> (Delta, bool) {
        if self.find(hash, &key.table, &key.aor).is_none() {
            return (Delta::default(), false);
        }
        let mut more = false;
        let delta = self.with_slot(hash, key, |slot| {
            if slot.revision > revision {
                more = slot.unsaved.is_some();
                return;
            }
            (slot.revision, slot.exact) = (revision, true);
            more = slot.unsaved.is_some() && !are_stored_alike(&slot.committed_set(), set);
            let stored = Arc::clone(set);
            slot.unsaved = more.then(|| Box::new(Unsaved { stored }));
        });
        self.note_removal(hash, key, revision);
        (delta, more)
    }

    /// Takes what the store has of an AoR, written by another router; nothing happens where that is
    /// known. What the store does not have yet stays, on top of it; changes under way that were
    /// computed without it are broken. With `as_of`, it is of a list of everything there was then,
    /// whatever its own number says.
    pub(crate) fn adopt(
        &mut self,
        hash: u64,
        record: Record,
        as_of: Option<AsOf>,
        fresh_version: impl FnOnce() -> u64,
    ) -> Delta {
        let Record { key, set, revision, exact } = record;
        let known = self.known_revision(hash, &key);
        let is_news = match as_of {
            None => known < revision,
            Some(as_of) => {
                let is_another = || as_of.renumbered && !self.has_stored(hash, &key, &set);
                known <= as_of.revision && (known != revision || is_another())
            }
        };
        // A removal of what is not there needs no slot.
        if !is_news || !self.has_table_room(&key.table) {
            return Delta::default();
        }
        let theirs = Arc::new(set);
        let delta = self.with_slot(hash, &key, |slot| {
            slot.pending = None;
            slot.version = fresh_version();
            (slot.revision, slot.exact) = (revision, exact);
            match &mut slot.unsaved {
                None => slot.set_committed(&theirs),
                Some(unsaved) => {
                    let mine = slot.committed.as_deref().cloned().unwrap_or_default();
                    let merged = Arc::new(merge(&unsaved.stored, &mine, &theirs));
                    unsaved.stored = Arc::clone(&theirs);
                    slot.set_committed(&merged);
                }
            }
        });
        self.note_removal(hash, &key, revision);
        delta
    }

    /// Is this what the store has of an AoR, as far as is known here?
    fn has_stored(&self, hash: u64, key: &AorKey, set: &BindingSet) -> bool {
        self.find(hash, &key.table, &key.aor)
            .is_some_and(|slot| are_stored_alike(&slot.stored_set(), set))
    }

    /// AoRs the store had at `revision` or before, but for those of these hashes.
    pub(crate) fn stored_but(&self, listed: &HashSet<u64>, revision: u64) -> Vec<(u64, AorKey)> {
        let mut found = Vec::new();
        for slot in self.slots.iter().filter(|slot| (1..=revision).contains(&slot.revision)) {
            let Some(table) = self.tables.get(usize::from(slot.table)) else { continue };
            let hash = hash_of(&self.hasher, table, &slot.aor);
            if !listed.contains(&hash) {
                found.push((
                    hash,
                    AorKey { table: Arc::clone(table), aor: slot.aor.as_slice().into() },
                ));
            }
        }
        found
    }

    /// The change has failed: what was committed counts, and all staged upon the change is broken.
    pub(crate) fn roll_back(&mut self, change: &Staged, fresh_version: u64) -> Delta {
        if self.basis(change).is_none() {
            return Delta::default();
        }
        self.with_slot(change.hash, &change.key, |slot| {
            slot.pending = None;
            slot.version = fresh_version;
        })
    }

    /// Drops bindings that have expired by `unix_ms` from AoRs that are due, at most `budget` AoRs.
    /// AoRs with a change under way are left to that change, which indexes them anew when it ends.
    pub(crate) fn expire(
        &mut self,
        unix_ms: u64,
        budget: usize,
        mut fresh_version: impl FnMut() -> u64,
    ) -> (Vec<Lapsed>, Delta) {
        let now_s = u32::try_from(unix_ms / 1000).unwrap_or(u32::MAX);
        let (mut lapsed, mut total) = (Vec::new(), Delta::default());
        for _ in 0..budget {
            let Some(&(due_s, hash)) = self.due.first().filter(|(due_s, _)| *due_s <= now_s) else {
                break;
            };
            let Some(key) = self.key_of_due(due_s, hash) else {
                self.due.remove(&(due_s, hash));
                continue;
            };
            let mut found = None;
            let delta = self.with_slot(hash, &key, |slot| {
                // Indexed anew by what is left.
                slot.due_s = 0;
                if slot.pending.is_some() {
                    return;
                }
                let Some(before) = slot.committed.clone() else { return };
                if before.live(unix_ms).count() == before.len() {
                    return;
                }
                let live = before.live(unix_ms).cloned().collect();
                let after = Arc::new(BindingSet { bindings: live });
                slot.committed = (!after.is_empty()).then(|| Arc::clone(&after));
                // What has expired is still in the store, and in front of what has not.
                slot.exact &= slot.unsaved.is_some();
                slot.version = fresh_version();
                found = Some((before, after));
            });
            total.aors += delta.aors;
            total.bindings += delta.bindings;
            lapsed.extend(found.map(|(before, after)| Lapsed { key, before, after }));
        }
        (lapsed, total)
    }

    fn key_of_due(&self, due_s: u32, hash: u64) -> Option<AorKey> {
        let slot = self.slots.find(hash, |slot| slot.due_s == due_s)?;
        let table = Arc::clone(self.tables.get(usize::from(slot.table))?);
        Some(AorKey { table, aor: slot.aor.as_slice().into() })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        // The index counts a key and its share of a half-full node.
        let pairs = self.due.len() * size_of::<(u32, u64)>() + self.removed.len() * 16;
        self.memory_bytes + 2 * pairs
    }

    /// All committed sets of a table, or of all tables.
    pub(crate) fn dump(&self, table: Option<&str>) -> Vec<(AorKey, Arc<BindingSet>)> {
        let mut all = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let Some(name) = self.tables.get(usize::from(slot.table)) else { continue };
            if table.is_some_and(|table| **name != *table) {
                continue;
            }
            if let Some(set) = &slot.committed {
                let key = AorKey { table: Arc::clone(name), aor: slot.aor.as_slice().into() };
                all.push((key, Arc::clone(set)));
            }
        }
        all
    }
}

impl Slot {
    /// Where it should stand in the expiry index: moved only to an earlier second. A refresh so
    /// costs nothing there; the entry finds its new place when its old second comes.
    fn wanted_due_s(&self) -> u32 {
        let next_ms = self.committed.as_ref().and_then(|set| set.next_expiry_ms());
        match (next_ms.map(second_after), self.due_s) {
            // A change under way decides; its end indexes the AoR again.
            (Some(_), 0) if self.pending.is_some() => 0,
            (None, _) => 0,
            (Some(wanted_s), 0) => wanted_s,
            (Some(wanted_s), due_s) => wanted_s.min(due_s),
        }
    }
}
