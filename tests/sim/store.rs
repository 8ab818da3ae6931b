//! A store whose disk outlives the router, and whose writes end when the simulation says so.
//!
//! The location service is the real one, with its thread. What makes it repeatable: the thread
//! waits in each write for an order, and the simulation waits until the thread has come that far.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};
use viaduct_engine::{AorKey, CommitFault, Token};
use viaduct_location::{Record, Store, StoreError, Write, Written, decode, encode};

/// What is durable: bindings by table and AoR, as the embedded store writes them.
pub(crate) type Disk = Arc<Mutex<BTreeMap<(String, Vec<u8>), Vec<u8>>>>;

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// It is on the disk.
    Apply,
    /// The disk refuses it.
    Fail,
}

/// What the store's thread tells.
#[derive(Debug)]
pub(crate) enum News {
    /// A write waits for its order.
    Writing,
    /// A commit has ended.
    Done(Token, Result<(), CommitFault>),
}

/// The simulation's end of a store.
pub(crate) struct Handle {
    pub(crate) orders: Sender<Order>,
    pub(crate) news: Receiver<News>,
    pub(crate) tell: Sender<News>,
    dead: Arc<AtomicBool>,
}

impl Handle {
    /// From now on nothing is written any more: the router has crashed.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
    }
}

/// The store's end.
pub(crate) struct SimStore {
    disk: Disk,
    orders: Receiver<Order>,
    tell: Sender<News>,
    dead: Arc<AtomicBool>,
}

/// A store on that disk, and who commands it.
pub(crate) fn pair(disk: &Disk) -> (SimStore, Handle) {
    let (orders, ordered) = crossbeam_channel::unbounded();
    let (tell, news) = crossbeam_channel::unbounded();
    let dead = Arc::new(AtomicBool::new(false));
    let store = SimStore {
        disk: Arc::clone(disk),
        orders: ordered,
        tell: tell.clone(),
        dead: Arc::clone(&dead),
    };
    (store, Handle { orders, news, tell, dead })
}

fn refused() -> StoreError {
    failed("refused")
}

fn failed(detail: &str) -> StoreError {
    StoreError::Other { path: PathBuf::from("simulated"), detail: detail.to_owned() }
}

impl Store for SimStore {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        for ((table, aor), bytes) in &*disk {
            let key = AorKey { table: table.as_str().into(), aor: aor.as_slice().into() };
            let set = decode(bytes).map_err(|fault| failed(&fault.to_string()))?;
            each(Record { key, set, revision: 0, exact: true });
        }
        Ok(())
    }

    fn write(&mut self, group: &[Write]) -> Result<Written, StoreError> {
        if self.dead.load(Ordering::Acquire) {
            return Err(refused());
        }
        // Whoever commands has gone: so has the router.
        self.tell.send(News::Writing).map_err(|_| refused())?;
        if self.orders.recv().map_err(|_| refused())? == Order::Fail {
            return Err(refused());
        }
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        for write in group {
            let key = (write.key.table.to_string(), write.key.aor.to_vec());
            if write.set.bindings.is_empty() {
                disk.remove(&key);
            } else {
                let mut bytes = Vec::new();
                encode(&write.set, &mut bytes);
                disk.insert(key, bytes);
            }
        }
        Ok(Written::default())
    }
}
