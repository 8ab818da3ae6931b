//! What the file holds after a crash, and what is said of files that are not whole.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers fail by panic

mod common;

use std::path::Path;

use common::*;
use redb::{Database, TableDefinition};
use viaduct_location::{
    Backend, Config, LocationService, Mode, OpenError, StoreError, repair, verify,
};

const BINDINGS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bindings");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

fn config(path: &Path) -> Config {
    let backend = Backend::File(path.to_owned());
    Config { mode: Mode::WriteThrough(backend), ..Config::default() }
}

fn open(path: &Path) -> Result<LocationService, OpenError> {
    LocationService::open(&config(path), NOW_MS)
}

fn refusal(path: &Path) -> StoreError {
    match open(path) {
        Err(OpenError::Store(fault)) => {
            assert!(fault.to_string().contains(path.to_str().unwrap()), "{fault}");
            fault
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

/// A store with `n` AoRs, closed.
fn filled(path: &Path, n: usize) {
    let service = open(path).unwrap();
    let changes = |from: usize| from..n.min(from + 50);
    for from in (0..n).step_by(50) {
        let all = changes(from).map(|n| change(&service, &format!("a{n}@x"), hour("sip:1")));
        assert_eq!(commit_now(&service, all.collect()), Ok(()));
    }
}

#[test]
fn every_acknowledged_change_is_in_the_file_at_once() {
    let folder = Folder::new();
    let (live, image) = (folder.file("location.redb"), folder.file("image.redb"));
    let service = open(&live).unwrap();
    for n in 0..8 {
        let aor = format!("a{}@x", n % 3);
        put(&service, &aor, hour(&format!("sip:{n}"))).unwrap();
        // The file as a crash at this moment leaves it: nothing is closed, nothing else is told.
        std::fs::copy(&live, &image).unwrap();
        let after_crash = open(&image).unwrap();
        assert_eq!(contacts(&after_crash, &aor), [format!("sip:{n}")]);
        let (counts, expected) = (after_crash.counts(), service.counts());
        assert_eq!((counts.aors, counts.bindings), (expected.aors, expected.bindings));
    }
    service.remove("location", b"a1@x", None).unwrap();
    std::fs::copy(&live, &image).unwrap();
    assert!(contacts(&open(&image).unwrap(), "a1@x").is_empty());
}

#[test]
fn all_fields_come_back_but_the_connection() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    let service = open(&path).unwrap();
    put(&service, "a@x", hour("sip:1")).unwrap();
    let before = viaduct_engine::Location::get(&service, "location", b"a@x").unwrap();
    drop(service);
    let service = open(&path).unwrap();
    let after = viaduct_engine::Location::get(&service, "location", b"a@x").unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_second_process_is_refused() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    let _first = open(&path).unwrap();
    assert!(matches!(refusal(&path), StoreError::InUse { .. }));
}

#[test]
fn a_missing_folder_and_a_folder_in_place_of_the_file_are_told() {
    let folder = Folder::new();
    assert!(matches!(refusal(&folder.file("none/location.redb")), StoreError::Io { .. }));
    assert!(matches!(refusal(folder.path()), StoreError::Io { .. }));
}

#[test]
fn a_read_only_file_is_told() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    filled(&path, 1);
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    if std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
        eprintln!("skipped: this user may write files that are read-only");
        return;
    }
    assert!(matches!(refusal(&path), StoreError::Io { .. }));
}

#[test]
fn files_that_are_no_store_are_told() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    for content in [&b"not a store"[..], &[0; 70_000], &[0xff; 5_000], b""] {
        std::fs::write(&path, content).unwrap();
        let fault = refusal(&path);
        assert!(matches!(fault, StoreError::Damaged { .. }), "{fault:?}");
    }
    std::fs::remove_file(&path).unwrap();
    drop(Database::create(&path).unwrap());
    let fault = refusal(&path);
    assert!(matches!(fault, StoreError::Damaged { .. }), "another program's file: {fault:?}");
}

#[test]
fn a_file_cut_short_is_told() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    filled(&path, 500);
    let whole = std::fs::read(&path).unwrap();
    for part in [whole.len() / 2, whole.len() / 4, 4096, 100] {
        std::fs::write(&path, &whole[..part]).unwrap();
        let fault = refusal(&path);
        assert!(matches!(fault, StoreError::Damaged { .. }), "{part}: {fault:?}");
    }
}

#[test]
fn damage_anywhere_is_told_or_harmless() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    filled(&path, 200);
    let whole = std::fs::read(&path).unwrap();
    let mut told = 0;
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut damaged = whole.clone();
        let end = (at + 16).min(damaged.len());
        damaged[at..end].fill(0xa5);
        std::fs::write(&path, &damaged).unwrap();
        match open(&path) {
            // The bytes were not in use.
            Ok(service) => assert_eq!(service.counts().aors, 200, "damage at {at}"),
            Err(_) => told += 1,
        }
    }
    assert!(told > 0, "no damage was noticed at all");
}

#[test]
fn a_record_of_a_later_version_is_named() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    filled(&path, 1);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let key = b"\x08locationbob@example.com".as_slice();
    transaction.open_table(BINDINGS).unwrap().insert(key, [77u8, 1, 2].as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let text = refusal(&path).to_string();
    assert!(text.contains("`bob@example.com` in table `location`"), "{text}");
    assert!(text.contains("unknown record version 77"), "{text}");
}

#[test]
fn another_format_of_the_file_is_named() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    filled(&path, 1);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 9).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let fault = refusal(&path);
    assert!(matches!(fault, StoreError::Format { found: 9, known: 1, .. }), "{fault:?}");
}

#[test]
fn a_crash_while_the_file_is_made_leaves_nothing_in_the_way() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    std::fs::write(folder.file("location.redb.new"), b"half a file").unwrap();
    filled(&path, 1);
    assert_eq!(open(&path).unwrap().counts().aors, 1);
}

#[test]
fn a_repair_keeps_what_can_be_read_and_the_old_file() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    filled(&path, 2_000);
    let whole = verify(&path).unwrap();
    assert_eq!((whole.aors, whole.bindings), (2_000, 2_000));
    let sound = std::fs::read(&path).unwrap();
    let (mut told, mut kept) = (0, 0);
    for at in (0..sound.len()).step_by(sound.len() / 12) {
        let mut damaged = sound.clone();
        let end = (at + 64).min(damaged.len());
        damaged[at..end].fill(0xa5);
        std::fs::write(&path, &damaged).unwrap();
        if verify(&path).is_ok() {
            continue;
        }
        told += 1;
        let repaired = repair(&path).unwrap();
        assert_eq!(std::fs::read(&repaired.old).unwrap().len(), damaged.len());
        assert_eq!(verify(&path).unwrap().aors, repaired.kept, "{repaired:?}");
        assert!(repaired.kept <= 2_000, "{repaired:?}");
        kept += repaired.kept;
        std::fs::remove_file(repaired.old).unwrap();
    }
    assert!(told > 0, "no damage was noticed");
    assert!(kept > 0, "nothing was ever saved");
}

#[test]
fn a_repair_of_a_file_in_use_or_of_none_is_refused() {
    let folder = Folder::new();
    let path = folder.file("location.redb");
    assert!(matches!(verify(&path), Err(StoreError::Io { .. })));
    let _service = open(&path).unwrap();
    assert!(matches!(verify(&path), Err(StoreError::InUse { .. })));
    assert!(matches!(repair(&path), Err(StoreError::InUse { .. })));
}
