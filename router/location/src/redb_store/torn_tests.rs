//! The file after a crash at any moment: what was synced is there, of what was written since any
//! part may be, sector by sector and in any order.

use std::io::ErrorKind;
use std::sync::Mutex;

use redb::StorageBackend;
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::{ConnId, Transport};

use super::*;
use crate::redb_file::META;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
    /// So many groups were acknowledged by now.
    Acknowledged(usize),
}

/// A disk that remembers in which order it was told what; full from `room` bytes on.
#[derive(Debug)]
struct Disk {
    content: Mutex<Vec<u8>>,
    steps: Arc<Mutex<Vec<Step>>>,
    room: u64,
}

impl Disk {
    fn note(&self, step: Step) {
        apply(&step, &mut self.content.lock().unwrap());
        self.steps.lock().unwrap().push(step);
    }
}

fn apply(step: &Step, content: &mut Vec<u8>) {
    match step {
        Step::Write(offset, data) => {
            let from = usize::try_from(*offset).unwrap();
            content[from..from + data.len()].copy_from_slice(data);
        }
        Step::Length(length) => content.resize(usize::try_from(*length).unwrap(), 0),
        Step::Sync | Step::Acknowledged(_) => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.content.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let from = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.content.lock().unwrap()[from..from + out.len()]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), std::io::Error> {
        if length > self.room {
            return Err(ErrorKind::StorageFull.into());
        }
        self.note(Step::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.note(Step::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.note(Step::Write(offset, data.to_vec()));
        Ok(())
    }
}

fn disk(room: u64) -> (Database, Arc<Mutex<Vec<Step>>>) {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let disk = Disk { content: Mutex::default(), steps: Arc::clone(&steps), room };
    let database = FILE.builder().create_with_backend(disk).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(FILE.mark, FILE.format).unwrap();
    transaction.commit().unwrap();
    (database, steps)
}

/// The `n`th group: one AoR changed, one added, one removed.
fn group(n: usize) -> Vec<Write> {
    let mut all = growing(n);
    all.extend(n.checked_sub(3).map(|old| write(format!("a{old}@x"), None)));
    all
}

/// The same without the removal.
fn growing(n: usize) -> Vec<Write> {
    vec![write("same@x".into(), Some(n)), write(format!("a{n}@x"), Some(n))]
}

/// An AoR with a contact of a length that differs, or its removal.
fn write(aor: String, contact: Option<usize>) -> Write {
    let set = contact.map(|contact| {
        let contact = format!("sip:{contact}@{}", "h".repeat(contact % 7 * 300 + 1));
        Binding::pack(&BindingFields {
            contact: contact.as_bytes(),
            contact_params: b"",
            path: b"",
            received: b"",
            call_id: b"c",
            user_agent: b"",
            instance: b"",
            attributes: b"",
            cseq: 1,
            q_milli: None,
            reg_id: 0,
            methods: None,
            expires_ms: u64::MAX,
            modified_ms: 0,
            transport: Transport::Udp,
            local: std::net::SocketAddr::from(([192, 0, 2, 1], 5060)),
            conn: ConnId::NONE,
            nat: false,
        })
    });
    let key = AorKey { table: "location".into(), aor: aor.into_bytes().into() };
    let bindings = set.into_iter().collect();
    Write::new(key, Arc::new(BindingSet { bindings }))
}

type Content = std::collections::BTreeMap<Box<[u8]>, BindingSet>;

/// What is stored after so many groups.
fn after(groups: usize, group: fn(usize) -> Vec<Write>) -> Content {
    let mut content = Content::new();
    for write in (0..groups).flat_map(group) {
        match write.set.is_empty() {
            true => content.remove(&write.key.aor),
            false => content.insert(write.key.aor, (*write.set).clone()),
        };
    }
    content
}

fn content(store: &mut RedbStore) -> Content {
    let mut content = Content::new();
    store.load(&mut |record| drop(content.insert(record.key.aor, record.set))).unwrap();
    content
}

/// Small numbers by chance, the same for a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64 of Marsaglia: enough to choose sectors.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// The disk's content after a crash in front of step `end`: some of the sectors written since the
/// last sync.
fn crashed(steps: &[Step], end: usize, chance: &mut Chance) -> Vec<u8> {
    let synced = steps[..end].iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
    let mut image = Vec::new();
    steps[..synced].iter().for_each(|step| apply(step, &mut image));
    // How much of the rest has arrived differs from crash to crash, from nothing to all.
    let share = chance.below(5);
    for step in &steps[synced..end] {
        match step {
            Step::Write(offset, data) => {
                for (n, sector) in data.chunks(SECTOR).enumerate() {
                    let at = offset + (n * SECTOR) as u64;
                    let fits = usize::try_from(at).unwrap() + sector.len() <= image.len();
                    if fits && chance.below(4) < share {
                        apply(&Step::Write(at, sector.to_vec()), &mut image);
                    }
                }
            }
            // A file's length is the file system's journal's business: it is there or not.
            Step::Length(_) if chance.below(4) < share => apply(step, &mut image),
            _ => {}
        }
    }
    image
}

#[test]
fn a_crash_at_any_moment_leaves_all_that_was_acknowledged() {
    const GROUPS: usize = 12;
    let path = std::env::temp_dir().join(format!("viaduct-torn-{}.redb", std::process::id()));
    let (database, steps) = disk(u64::MAX);
    let begun = steps.lock().unwrap().len();
    for n in 0..GROUPS {
        RedbStore::write_group(&path, &database, &group(n)).unwrap();
        steps.lock().unwrap().push(Step::Acknowledged(n + 1));
    }
    let steps = steps.lock().unwrap().clone();
    let mut chance = Chance(0x5eed);
    let mut between = 0;
    for end in begun..steps.len() {
        let acknowledged = steps[..end].iter().rev().find_map(|step| match step {
            Step::Acknowledged(groups) => Some(*groups),
            _ => None,
        });
        let acknowledged = acknowledged.unwrap_or(0);
        for _ in 0..3 {
            std::fs::write(&path, crashed(&steps, end, &mut chance)).unwrap();
            let found = content(&mut RedbStore::open(&path).unwrap());
            // The group under way is there as a whole or not at all.
            let next = acknowledged < GROUPS && found == after(acknowledged + 1, group);
            assert!(next || found == after(acknowledged, group), "crash in front of step {end}");
            between += usize::from(next);
        }
    }
    std::fs::remove_file(&path).unwrap();
    assert!(between > 0, "no crash fell between the last sync and its acknowledgement");
}

#[test]
fn a_full_disk_refuses_a_group_whole_and_keeps_the_others() {
    let path = std::env::temp_dir().join(format!("viaduct-full-{}.redb", std::process::id()));
    let (empty, steps) = disk(u64::MAX);
    drop(empty);
    let mut image = Vec::new();
    steps.lock().unwrap().iter().for_each(|step| apply(step, &mut image));
    let (database, steps) = disk(image.len() as u64);
    let mut stored = 0;
    let fault = loop {
        match RedbStore::write_group(&path, &database, &growing(stored)) {
            Ok(()) => stored += 1,
            Err(fault) => break fault,
        }
        assert!(stored < 5_000, "the disk is never full");
    };
    let told = matches!(&fault, StoreError::Io { source, .. }
        if source.kind() == ErrorKind::StorageFull);
    assert!(told && stored > 0, "{fault}");
    drop(database);
    let mut image = Vec::new();
    steps.lock().unwrap().iter().for_each(|step| apply(step, &mut image));
    std::fs::write(&path, image).unwrap();
    let mut store = RedbStore::open(&path).unwrap();
    assert_eq!(content(&mut store), after(stored, growing));
    // With room again, on the next disk, it goes on.
    store.write(&growing(stored)).unwrap();
    assert_eq!(content(&mut store), after(stored + 1, growing));
    std::fs::remove_file(&path).unwrap();
}
