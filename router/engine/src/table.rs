//! Tables policies share: bounded, expiring key/value pairs and rate counters.
//!
//! One [`Tables`] serves all workers. A run reads it and *stages* its changes ([`TableChange`]);
//! the engine applies them when the run has ended well. Between two runs at the same time the later
//! one to end wins, except that additions and hits add up.

use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Tables with a lock each.
const SHARDS: usize = 16;
/// Most tables; what more are asked for are always full.
const MOST_TABLES: usize = 64;
/// Longest key, bytes.
pub const MOST_KEY_BYTES: usize = 256;
/// Longest value, bytes.
pub const MOST_VALUE_BYTES: usize = 4096;
/// Longest life of an entry, and longest window of a rate: a year.
pub const MOST_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// A full table looks for expired entries at most this often, so that a flood of new keys does not
/// make each insertion search all of it.
const SWEEP_MS: u64 = 1000;

/// Why a change is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    /// Key empty or over 256 bytes, value over 4,096, life or window 0 or over a year, or over 32
    /// changes in one run.
    #[error("too large")]
    TooLarge,
    /// No room for another key, until some expire.
    #[error("full")]
    Full,
    /// `add` to what is no number, `hit` on what is no rate.
    #[error("not a number")]
    NotNumber,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Box<str>),
    /// A number that is added to.
    Number(i64),
    /// Hits in time windows.
    Rate(Rate),
}

/// Hits in the window that runs and in the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Number of the running window since 1970.
    window: u64,
    now: u32,
    before: u32,
}

impl Rate {
    /// Counts a hit; how many there were in the last `window_ms`, this one included. The window
    /// slides: of the one before, the part that still lies inside counts, as if its hits had come
    /// evenly.
    fn hit(&mut self, window_ms: u64, unix_ms: u64) -> u32 {
        let window_ms = window_ms.max(1);
        let number = unix_ms / window_ms;
        if number != self.window {
            let next = number == self.window.saturating_add(1);
            self.before = if next { self.now } else { 0 };
            self.now = 0;
            self.window = number;
        }
        self.now = self.now.saturating_add(1);
        let left_ms = window_ms.saturating_sub(unix_ms % window_ms);
        let part = u64::from(self.before).saturating_mul(left_ms) / window_ms;
        self.now.saturating_add(u32::try_from(part).unwrap_or(u32::MAX))
    }
}

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    expires_ms: u64,
}

/// What a run wants to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// Name of the table.
    pub table: Box<str>,
    /// Key.
    pub key: Box<str>,
    /// What.
    pub action: TableAction,
}

/// One change of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableAction {
    /// Put this text there until then, in milliseconds since 1970.
    Set {
        /// Value.
        value: Box<str>,
        /// When it ends.
        expires_ms: u64,
    },
    /// Take the entry away.
    Remove,
    /// Add to the number; where there is none yet it begins with 0, and ends then.
    Add {
        /// How much.
        by: i64,
        /// When a new one ends. One that is there keeps its end.
        expires_ms: u64,
    },
    /// Count a hit.
    Hit {
        /// Length of the window, milliseconds.
        window_ms: u64,
    },
}

impl TableAction {
    /// The entry after this change. A change that does not fit what is there leaves it.
    fn after(&self, entry: Option<Entry>, unix_ms: u64) -> Option<Entry> {
        match self {
            TableAction::Set { value, expires_ms } => {
                Some(Entry { value: Value::Text(value.clone()), expires_ms: *expires_ms })
            }
            TableAction::Remove => None,
            TableAction::Add { by, expires_ms } => match entry {
                Some(Entry { value: Value::Number(number), expires_ms }) => {
                    let value = Value::Number(number.saturating_add(*by));
                    Some(Entry { value, expires_ms })
                }
                None => Some(Entry { value: Value::Number(*by), expires_ms: *expires_ms }),
                other => other,
            },
            TableAction::Hit { window_ms } => {
                let mut rate = match entry {
                    None => Rate::default(),
                    Some(Entry { value: Value::Rate(rate), .. }) => rate,
                    other => return other,
                };
                rate.hit(*window_ms, unix_ms);
                let expires_ms = unix_ms.saturating_add(window_ms.saturating_mul(2));
                Some(Entry { value: Value::Rate(rate), expires_ms })
            }
        }
    }
}

/// Hits in the window after `value` has been hit once more; `None` where it is no rate.
pub(crate) fn rate_after(value: Option<Value>, window_ms: u64, unix_ms: u64) -> Option<u32> {
    match value {
        None => Some(Rate::default().hit(window_ms, unix_ms)),
        Some(Value::Rate(mut rate)) => Some(rate.hit(window_ms, unix_ms)),
        Some(_) => None,
    }
}

type Entries = HashMap<Box<str>, Entry, ahash::RandomState>;

#[derive(Default)]
struct Shard {
    /// Few: searched one by one.
    tables: Vec<(Box<str>, Entries)>,
    swept_ms: u64,
}

/// All tables of a router.
pub struct Tables {
    shards: [Mutex<Shard>; SHARDS],
    hasher: ahash::RandomState,
    most_per_shard: usize,
}

impl Default for Tables {
    fn default() -> Self {
        Tables::new(100_000, 0)
    }
}

impl Tables {
    /// Empty tables for about `most` entries each. `seed` spreads the hashes: keys come from
    /// strangers.
    pub fn new(most: usize, seed: u64) -> Tables {
        Tables {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: ahash::RandomState::with_seeds(seed, 7, 8, 9),
            most_per_shard: most.div_ceil(SHARDS).max(1),
        }
    }

    /// What stands under a key and has not expired.
    pub fn get(&self, table: &str, key: &str, unix_ms: u64) -> Option<Value> {
        let shard = self.shard(key)?.lock();
        let (_, entries) = shard.tables.iter().find(|(name, _)| **name == *table)?;
        entries.get(key).filter(|e| e.expires_ms > unix_ms).map(|entry| entry.value.clone())
    }

    /// Is the key there, or is there room for it?
    pub fn has_room(&self, table: &str, key: &str, unix_ms: u64) -> bool {
        self.shard(key).is_some_and(|shard| shard.lock().has_room(self, table, key, unix_ms))
    }

    /// Carries a change out; false where there was no room any more.
    pub fn apply(&self, change: &TableChange, unix_ms: u64) -> bool {
        let TableChange { table, key, action } = change;
        let Some(shard) = self.shard(key) else { return false };
        let mut shard = shard.lock();
        if !shard.has_room(self, table, key, unix_ms) {
            return *action == TableAction::Remove;
        }
        let entries = shard.entries(table, &self.hasher);
        let old = entries.remove(key).filter(|entry| entry.expires_ms > unix_ms);
        if let Some(new) = action.after(old, unix_ms) {
            entries.insert(key.clone(), new);
        }
        true
    }

    /// Entries of a table, those that have expired and are not swept yet included.
    pub fn len(&self, table: &str) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            let found = shard.tables.iter().find(|(name, _)| **name == *table);
            found.map_or(0, |(_, entries)| entries.len())
        };
        self.shards.iter().map(count).fold(0, usize::saturating_add)
    }

    /// Names of the tables that have been written to.
    pub fn names(&self) -> Vec<Box<str>> {
        let mut names: Vec<Box<str>> = Vec::new();
        for shard in &self.shards {
            names.extend(shard.lock().tables.iter().map(|(name, _)| name.clone()));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    fn shard(&self, key: &str) -> Option<&Mutex<Shard>> {
        let number = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0);
        self.shards.get(number % SHARDS)
    }
}

impl Shard {
    fn has_room(&mut self, all: &Tables, table: &str, key: &str, unix_ms: u64) -> bool {
        let tables = self.tables.len();
        let Some((_, entries)) = self.tables.iter_mut().find(|(name, _)| **name == *table) else {
            return tables < MOST_TABLES;
        };
        if entries.len() < all.most_per_shard || entries.contains_key(key) {
            return true;
        }
        if unix_ms >= self.swept_ms.saturating_add(SWEEP_MS) {
            self.swept_ms = unix_ms;
            entries.retain(|_, entry| entry.expires_ms > unix_ms);
        }
        entries.len() < all.most_per_shard
    }

    fn entries(&mut self, table: &str, hasher: &ahash::RandomState) -> &mut Entries {
        let at = self.tables.iter().position(|(name, _)| **name == *table);
        let at = at.unwrap_or_else(|| {
            self.tables.push((table.into(), Entries::with_hasher(hasher.clone())));
            self.tables.len().saturating_sub(1)
        });
        match self.tables.get_mut(at) {
            Some((_, entries)) => entries,
            // `at` is the place of what was found, or of what was just put there.
            None => unreachable!("the table has just been found or added"),
        }
    }
}

/// The value of a key after the changes already staged in a run.
pub(crate) fn staged(
    tables: &Tables,
    changes: &[TableChange],
    (table, key): (&str, &str),
    unix_ms: u64,
) -> Option<Value> {
    let value = tables.get(table, key, unix_ms);
    let mut entry = value.map(|value| Entry { value, expires_ms: u64::MAX });
    for change in changes.iter().filter(|c| *c.table == *table && *c.key == *key) {
        entry = change.action.after(entry, unix_ms);
    }
    entry.map(|entry| entry.value)
}

#[cfg(test)]
mod tests;
