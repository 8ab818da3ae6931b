//! What other routers have changed, on its way from a shared store into the table.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::{AsOf, Record, Watcher};
use crate::table::Table;

/// The table as a store's [`Watcher`].
pub(crate) struct Inbox {
    table: Arc<Table>,
    list: Mutex<List>,
}

/// A list of everything, on its way.
#[derive(Default)]
struct List {
    as_of: AsOf,
    hashes: HashSet<u64>,
}

impl Inbox {
    pub(crate) fn new(table: Arc<Table>) -> Inbox {
        Inbox { table, list: Mutex::default() }
    }
}

impl Watcher for Inbox {
    fn changed(&self, record: Record) {
        self.table.adopt(record, None);
    }

    fn told(&self, revision: u64) {
        self.table.forget_removals(revision);
    }

    fn list_begins(&self, as_of: AsOf) {
        *self.list.lock() = List { as_of, hashes: HashSet::new() };
    }

    fn listed(&self, record: Record) {
        let mut list = self.list.lock();
        list.hashes.insert(self.table.hash(&record.key.table, &record.key.aor));
        self.table.adopt(record, Some(list.as_of));
    }

    fn list_ends(&self) {
        let list = std::mem::take(&mut *self.list.lock());
        self.table.keep_only(&list.hashes, list.as_of);
    }
}
