//! Versions: deploy, pin, free, roll back, fall back, restart.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::{Guest, ask, invite, manifest, register, reply};
use viaduct_engine::{FailureKind, Phase, Policy, PolicyFailure, Verdict};
use viaduct_policy::{CatalogError, PolicyCatalog, PolicyHost, WorkerOptions};

/// A version that answers with a status of its own.
fn answering(status: i32) -> Vec<u8> {
    let on_request = reply(status, 0, 0);
    Guest { on_request: &on_request, ..Guest::default() }.build(&manifest(""))
}

/// A version that traps on INVITE and answers 299 to all else.
fn trapping(manifest_rest: &str) -> Vec<u8> {
    let on_request =
        format!("(if (i32.eqz (local.get $method)) (then unreachable)) {}", reply(299, 0, 0));
    Guest { on_request: &on_request, ..Guest::default() }.build(&manifest(manifest_rest))
}

fn worker(catalog: &Arc<PolicyCatalog>) -> PolicyHost {
    catalog.worker(WorkerOptions::default()).unwrap()
}

fn status(verdict: Result<Verdict, PolicyFailure>) -> u16 {
    match verdict {
        Ok(Verdict::Reply { status, .. }) => status,
        other => panic!("no reply: {other:?}"),
    }
}

fn live(catalog: &PolicyCatalog) -> u64 {
    catalog.live().unwrap().serial()
}

#[test]
fn r_g3_a_transaction_keeps_its_version_and_frees_it_when_it_ends() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&answering(201)).unwrap();
    let mut host = worker(&catalog);
    let pinned = host.current();
    assert_eq!(status(host.decide(&pinned, Phase::Request, invite()).1), 201);
    catalog.deploy(&answering(202)).unwrap();
    catalog.deploy(&answering(203)).unwrap();
    assert_eq!(status(ask(&mut host, invite()).1), 203);
    assert_eq!(status(host.decide(&pinned, Phase::Request, invite()).1), 201);
    let loaded = || catalog.list().iter().map(|info| info.loaded).collect::<Vec<_>>();
    assert_eq!(loaded(), [true, true, true]);
    drop(pinned);
    host.current();
    // The second stays loaded to fall back to, the first has gone.
    assert_eq!(loaded(), [false, true, true]);
}

#[test]
fn every_worker_takes_up_a_new_version_at_its_next_message() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&answering(201)).unwrap();
    let mut hosts = [worker(&catalog), worker(&catalog)];
    for host in &mut hosts {
        assert_eq!(status(ask(host, invite()).1), 201);
    }
    catalog.deploy(&answering(202)).unwrap();
    for host in &mut hosts {
        assert_eq!(status(ask(host, invite()).1), 202);
    }
}

#[test]
fn a_swap_while_workers_run_disturbs_no_run() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    let versions = [answering(201), answering(202)];
    catalog.deploy(&versions[0]).unwrap();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let mut host = worker(&catalog);
                scope.spawn(move || {
                    let mut seen = [0u32; 2];
                    while seen.iter().sum::<u32>() < 20_000 || seen.contains(&0) {
                        let version = host.current();
                        let (_, verdict) = host.decide(&version, Phase::Request, invite());
                        seen[usize::from(status(verdict) - 201)] += 1;
                    }
                })
            })
            .collect();
        let mut next = 1;
        while workers.iter().any(|worker| !worker.is_finished()) {
            catalog.deploy(&versions[next]).unwrap();
            next = 1 - next;
        }
    });
    assert_eq!(catalog.list().iter().map(|info| info.counts.failures()).sum::<u64>(), 0);
}

#[test]
fn a_refused_version_leaves_the_live_one() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&answering(201)).unwrap();
    let generation = catalog.generation();
    let hang = Guest { rest: "(func $s (loop $l (br $l))) (start $s)", ..Guest::default() };
    assert!(catalog.deploy(&hang.build(&manifest(""))).is_err());
    assert!(catalog.deploy(b"\0asm").is_err());
    assert_eq!((live(&catalog), catalog.generation()), (1, generation));
    assert_eq!(status(ask(&mut worker(&catalog), invite()).1), 201);
}

#[test]
fn deploying_what_is_live_changes_nothing() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    assert!(catalog.deploy(&answering(201)).unwrap().changed);
    let again = catalog.deploy(&answering(201)).unwrap();
    assert_eq!((again.changed, again.serial, catalog.list().len()), (false, 1, 1));
    assert_eq!((&*again.name, &*again.version, again.hash.len()), ("guest", "1.0.0", 16));
}

#[test]
fn rollbacks_go_back_one_version_each() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    assert!(matches!(catalog.rollback(), Err(CatalogError::NothingEarlier)));
    for status in [201, 202, 203] {
        catalog.deploy(&answering(status)).unwrap();
    }
    let mut host = worker(&catalog);
    let next = |catalog: &PolicyCatalog| {
        catalog.list().into_iter().find(|info| info.next_rollback).map(|info| info.serial)
    };
    assert_eq!(next(&catalog), Some(2));
    assert_eq!(catalog.rollback().unwrap().serial, 2);
    assert_eq!(status(ask(&mut host, invite()).1), 202);
    assert_eq!(catalog.rollback().unwrap().serial, 1);
    assert_eq!(status(ask(&mut host, invite()).1), 201);
    assert!(matches!(catalog.rollback(), Err(CatalogError::NothingEarlier)));
    assert_eq!(status(ask(&mut host, invite()).1), 201);
    // Forward again: the same bytes keep their number.
    assert_eq!(catalog.deploy(&answering(203)).unwrap().serial, 3);
    assert_eq!(catalog.activate(2).unwrap().serial, 2);
    assert!(matches!(catalog.activate(9), Err(CatalogError::NoSuchVersion(9))));
    assert_eq!(catalog.rollback().unwrap().serial, 3);
}

#[test]
fn without_a_policy_there_is_no_worker() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    assert!(matches!(catalog.worker(WorkerOptions::default()), Err(CatalogError::Empty)));
}

#[test]
fn a_failing_version_can_fall_back_to_the_one_before_it() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&answering(201)).unwrap();
    catalog.deploy(&trapping("fallback = \"previous version\"")).unwrap();
    let mut host = worker(&catalog);
    for _ in 0..3 {
        assert_eq!(status(ask(&mut host, register()).1), 299);
        assert_eq!(status(ask(&mut host, invite()).1), 201);
    }
    let info = catalog.list();
    assert_eq!((info[1].counts.traps, info[1].counts.fallbacks), (3, 3));
    assert_eq!((info[0].counts.runs, info[0].counts.instances), (3, 1));
    assert!(info[1].last_failure.as_deref().unwrap().contains("unreachable"));
}

#[test]
fn the_other_fallbacks_are_500_and_503() {
    for (rest, status) in [
        ("", 500),
        ("fallback = \"500\"", 500),
        ("fallback = \"503\"", 503),
        ("fallback = \"previous version\"", 500),
    ] {
        let mut host = common::host(&trapping(rest));
        let failure = PolicyFailure { kind: FailureKind::Trap, status };
        assert_eq!(ask(&mut host, invite()).1, Err(failure));
    }
}

/// An empty directory of this test, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("viaduct-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Dir(dir)
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_restart_comes_up_with_the_same_versions() {
    let dir = Dir::new("restart");
    {
        let catalog = PolicyCatalog::open(&dir.0).unwrap();
        assert!(catalog.live().is_none());
        for status in [201, 202, 203] {
            catalog.deploy(&answering(status)).unwrap();
        }
        catalog.rollback().unwrap();
    }
    // What a crash in the middle of a write leaves, and what is not ours.
    std::fs::write(dir.0.join("9-guest-1.0.0-00.wasm.part"), b"half").unwrap();
    std::fs::write(dir.0.join("notes.txt"), b"mine").unwrap();
    let catalog = PolicyCatalog::open(&dir.0).unwrap();
    assert_eq!((live(&catalog), catalog.list().len()), (2, 3));
    assert_eq!(status(ask(&mut worker(&catalog), invite()).1), 202);
    assert!(dir.files().contains(&"notes.txt".to_owned()));
    assert!(!dir.files().iter().any(|name| name.ends_with(".part")));
    assert_eq!(catalog.rollback().unwrap().serial, 1);
    assert_eq!(catalog.deploy(&answering(204)).unwrap().serial, 4);
    drop(catalog);
    assert_eq!(live(&PolicyCatalog::open(&dir.0).unwrap()), 4);
}

#[test]
fn a_stored_version_that_was_damaged_is_named() {
    let dir = Dir::new("damaged");
    {
        let catalog = PolicyCatalog::open(&dir.0).unwrap();
        catalog.deploy(&answering(201)).unwrap();
        catalog.deploy(&answering(202)).unwrap();
    }
    let damage = |serial: &str| {
        let name = dir.files().into_iter().find(|name| name.starts_with(serial)).unwrap();
        let path = dir.0.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    damage("1-");
    let catalog = PolicyCatalog::open(&dir.0).unwrap();
    assert_eq!((live(&catalog), catalog.list().len()), (2, 1));
    assert!(matches!(catalog.rollback(), Err(CatalogError::NothingEarlier)));
    drop(catalog);
    damage("2-");
    let error = PolicyCatalog::open(&dir.0).err().unwrap().to_string();
    assert!(error.contains("2-guest-1.0.0-") && error.contains("hash"), "{error}");
}

#[test]
fn old_versions_are_removed_but_never_the_live_one() {
    let dir = Dir::new("pruned");
    let catalog = PolicyCatalog::open(&dir.0).unwrap();
    for status in 0..20 {
        catalog.deploy(&answering(300 + status)).unwrap();
    }
    assert_eq!(catalog.list().len(), 16);
    assert_eq!(live(&catalog), 20);
    assert_eq!(dir.files().len(), 18, "16 versions, `active`, and machine code in `code`");
    assert_eq!(std::fs::read_dir(dir.0.join("code")).unwrap().count(), 16);
    assert_eq!(catalog.rollback().unwrap().serial, 19);
}
