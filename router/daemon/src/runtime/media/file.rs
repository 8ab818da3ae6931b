//! The file that calls whose media are relayed are kept in, for the next process: written in groups by
//! a thread of its own. A crash costs the changes of the last milliseconds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use parking_lot::{Condvar, Mutex};
use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
};
use viaduct_location::{FileFault, RedbFile};
use viaduct_media::service::{Journal, Key};

/// Key: [`Key::octets`]. Value: the media relay's own.
const KEPT: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("kept");
const FILE: RedbFile = RedbFile { mark: "media format", format: 1, cache_bytes: 8 << 20 };
/// Changes that wait while the disk takes none; more are lost.
const WAITING_MAX: usize = 1_000_000;
/// Until the next try where the disk has refused.
const AGAIN: Duration = Duration::from_secs(1);

/// All keys and values of the file.
pub(super) type Kept = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Default)]
struct Waiting {
    /// By key, so that a change replaces one that still waits; `None`: a removal.
    changes: HashMap<Key, Option<Vec<u8>>>,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Groups written that say how calls stand.
    kept: AtomicU64,
}

/// The open file.
pub(super) struct KeptFile {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl KeptFile {
    /// Opens the file or makes it, and reads all that is in it. A damaged one is put aside: it is
    /// no reason not to take calls.
    pub(super) fn open(path: &Path) -> anyhow::Result<(KeptFile, Kept)> {
        let database = open(path).with_context(|| format!("{}", path.display()))?;
        let kept = read_all(&database).with_context(|| format!("{}", path.display()))?;
        let shared: Arc<Shared> = Arc::default();
        let writer =
            Writer { shared: Arc::clone(&shared), path: path.to_owned(), database: Some(database) };
        let thread =
            std::thread::Builder::new().name("media-file".into()).spawn(move || writer.run())?;
        Ok((KeptFile { shared, thread: Mutex::new(Some(thread)) }, kept))
    }

    /// Writes what still waits, and ends.
    pub(super) fn close(&self) {
        self.shared.waiting.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!(target: "viaduct::media", "the thread of the file has panicked");
        }
    }

    /// How often it was written how calls stand.
    pub(super) fn kept(&self) -> u64 {
        self.shared.kept.load(Ordering::Relaxed)
    }

    fn change(&self, key: Key, value: Option<Vec<u8>>) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.changes.len() < WAITING_MAX || waiting.changes.contains_key(&key) {
            waiting.changes.insert(key, value);
            self.shared.changed.notify_one();
        }
    }
}

impl Journal for KeptFile {
    fn put(&self, key: Key, value: Vec<u8>) {
        self.change(key, Some(value));
    }

    fn remove(&self, key: Key) {
        self.change(key, None);
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        self.close();
    }
}

struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    /// `None` after a failure: it is opened again for the next group.
    database: Option<Database>,
}

impl Writer {
    fn run(mut self) {
        let mut is_well = true;
        loop {
            let (changes, closing) = {
                let mut waiting = self.shared.waiting.lock();
                while waiting.changes.is_empty() && !waiting.closing {
                    self.shared.changed.wait(&mut waiting);
                }
                (std::mem::take(&mut waiting.changes), waiting.closing)
            };
            let written = if changes.is_empty() { Ok(()) } else { self.write(&changes) };
            match written {
                Ok(()) if closing => return,
                Ok(()) => is_well = true,
                Err(error) => {
                    if is_well || closing {
                        let (error, path) = (format!("{error:#}"), self.path.display());
                        tracing::warn!(target: "viaduct::media", %path, error, "calls are not kept");
                    }
                    if closing {
                        return;
                    }
                    is_well = false;
                    self.put_back(changes);
                }
            }
        }
    }

    /// For the next try; what has changed meanwhile is newer.
    fn put_back(&self, changes: HashMap<Key, Option<Vec<u8>>>) {
        let mut waiting = self.shared.waiting.lock();
        let newer = std::mem::replace(&mut waiting.changes, changes);
        waiting.changes.extend(newer);
        let until = std::time::Instant::now() + AGAIN;
        while !waiting.closing && !self.shared.changed.wait_until(&mut waiting, until).timed_out() {
        }
    }

    fn write(&mut self, changes: &HashMap<Key, Option<Vec<u8>>>) -> anyhow::Result<()> {
        let database = match self.database.take() {
            Some(database) => database,
            None => FILE.open(&self.path)?,
        };
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(KEPT)?;
            for (key, value) in changes {
                let key = key.octets();
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                    None => drop(table.remove(key.as_slice())?),
                }
            }
        }
        transaction.commit()?;
        // The relay says it lives behind what it has to say.
        let is_whole = changes.contains_key(&Key::Alive);
        self.shared.kept.fetch_add(is_whole.into(), Ordering::Relaxed);
        self.database = Some(database);
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, FileFault> {
    match FILE.open_or_create(path) {
        Err(fault @ (FileFault::Damaged(_) | FileFault::Format { .. })) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".damaged");
            std::fs::rename(path, &aside)?;
            let (fault, aside) = (fault.to_string(), Path::new(&aside).display());
            tracing::error!(
                target: "viaduct::media", fault, %aside, "calls of an earlier process are forgotten"
            );
            FILE.open_or_create(path)
        }
        opened => opened,
    }
}

fn read_all(database: &Database) -> anyhow::Result<Kept> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(KEPT) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut kept = Vec::new();
    for item in table.iter()? {
        let (key, value) = item?;
        kept.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_was_put_is_there_for_the_next_process_and_what_was_removed_is_not() {
        let folder = Scratch::new();
        let path = folder.path().join("media.redb");
        let (file, kept) = KeptFile::open(&path).unwrap();
        assert!(kept.is_empty());
        file.put(Key::Call(1), vec![1]);
        file.put(Key::Call(2), vec![2]);
        file.put(Key::Call(1), vec![3]);
        file.remove(Key::Call(2));
        assert!(KeptFile::open(&path).is_err(), "two processes with one file");
        drop(file);
        let (_, kept) = KeptFile::open(&path).unwrap();
        assert_eq!(kept, [(Key::Call(1).octets(), vec![3])]);
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let folder = Scratch::new();
        let path = folder.path().join("media.redb");
        std::fs::write(&path, "no database").unwrap();
        let (_, kept) = KeptFile::open(&path).unwrap();
        assert!(kept.is_empty());
        let aside = std::fs::read(folder.path().join("media.redb.damaged")).unwrap();
        assert_eq!(aside, b"no database");
    }
}
