//! Who sees a change when, and what becomes of changes that fail.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers fail by panic

mod common;

use std::sync::Arc;

use common::*;
use viaduct_engine::registrar::BindingSet;
use viaduct_engine::{Change, CommitFault, Location as _};
use viaduct_location::{Config, LocationService};

fn memory() -> LocationService {
    LocationService::open(&Config::default(), NOW_MS).unwrap()
}

fn gated_service(config: &Config) -> (LocationService, Gate) {
    let (store, gate) = gated();
    (LocationService::open_with(config, Box::new(store), NOW_MS).unwrap(), gate)
}

fn empty() -> Arc<BindingSet> {
    Arc::default()
}

#[test]
fn r_u2_memory_mode_applies_at_once() {
    let service = memory();
    let outcome = commit(&service, vec![change(&service, "a@x", hour("sip:1"))]);
    assert_eq!(outcome.try_recv(), Ok(Ok(())));
    assert_eq!(contacts(&service, "a@x"), ["sip:1"]);
    let snapshot = service.latest("location", b"a@x");
    assert!(!snapshot.pending && snapshot.version > 0);
    assert_eq!(put(&service, "a@x", empty()), Ok(()));
    assert!(service.get("location", b"a@x").is_none());
    assert_eq!(service.counts().aors, 0);
}

#[test]
fn tables_are_apart() {
    let service = memory();
    put(&service, "a@x", hour("sip:1")).unwrap();
    assert!(service.get("other", b"a@x").is_none());
    assert!(service.latest("other", b"a@x").set.is_none());
    let mut other = change(&service, "a@x", hour("sip:2"));
    (other.key.table, other.based_on) = ("other".into(), 0);
    assert_eq!(commit_now(&service, vec![other]), Ok(()));
    assert_eq!(contacts(&service, "a@x"), ["sip:1"]);
    assert_eq!(service.counts().aors, 2);
}

#[test]
fn r_u2_write_through_shows_a_change_when_it_is_stored() {
    let (service, gate) = gated_service(&Config::default());
    let outcome = commit(&service, vec![change(&service, "a@x", hour("sip:1"))]);
    let writes = gate.entered.recv().unwrap();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].expires_ms, NOW_MS + 3_600_000);
    assert!(contacts(&service, "a@x").is_empty());
    assert_eq!(latest_contacts(&service, "a@x"), ["sip:1"]);
    assert!(service.latest("location", b"a@x").pending);
    assert!(outcome.try_recv().is_err());
    gate.answers.send(Answer::Stored).unwrap();
    assert_eq!(outcome.recv(), Ok(Ok(())));
    assert_eq!(contacts(&service, "a@x"), ["sip:1"]);
    assert!(!service.latest("location", b"a@x").pending);
}

#[test]
fn a_removal_under_way_is_an_empty_set_that_is_pending() {
    let (service, gate) = gated_service(&Config::default());
    let outcome = commit(&service, vec![change(&service, "a@x", hour("sip:1"))]);
    gate.pass(Answer::Stored);
    outcome.recv().unwrap().unwrap();
    let outcome = commit(&service, vec![change(&service, "a@x", empty())]);
    let snapshot = service.latest("location", b"a@x");
    assert!(snapshot.pending && snapshot.set.is_some_and(|set| set.is_empty()));
    assert_eq!(contacts(&service, "a@x"), ["sip:1"]);
    let writes = gate.pass(Answer::Stored);
    assert!(writes[0].set.is_empty());
    assert_eq!(outcome.recv(), Ok(Ok(())));
    assert!(service.latest("location", b"a@x").set.is_none());
}

#[test]
fn r_g1_of_two_changes_on_one_version_one_wins() {
    let one_wins = |service: &LocationService| {
        let first = change(service, "a@x", hour("sip:1"));
        let second = change(service, "a@x", hour("sip:2"));
        let _first = commit(service, vec![first]);
        assert_eq!(commit_now(service, vec![second]), Err(CommitFault::Conflict));
        assert_eq!(latest_contacts(service, "a@x"), ["sip:1"]);
    };
    one_wins(&memory());
    let (service, gate) = gated_service(&Config::default());
    one_wins(&service);
    drop(gate);
}

#[test]
fn of_changes_raced_by_threads_exactly_one_wins() {
    let service = Arc::new(memory());
    for round in 0..200 {
        let wins: usize = std::thread::scope(|scope| {
            let start = Arc::new(std::sync::Barrier::new(4));
            let based_on = service.latest("location", b"a@x").version;
            let race = |n: usize| {
                let (service, start) = (Arc::clone(&service), Arc::clone(&start));
                scope.spawn(move || {
                    let set = hour(&format!("sip:{round}-{n}"));
                    let change = Change { key: key("a@x"), based_on, set, memory_only: false };
                    start.wait();
                    usize::from(commit_now(&service, vec![change]).is_ok())
                })
            };
            let threads: Vec<_> = (0..4).map(race).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(wins, 1);
    }
}

#[test]
fn a_version_of_a_removed_aor_never_comes_back() {
    let service = memory();
    put(&service, "a@x", hour("sip:1")).unwrap();
    let stale = change(&service, "a@x", hour("sip:stale"));
    put(&service, "a@x", empty()).unwrap();
    assert_eq!(commit_now(&service, vec![stale.clone()]), Err(CommitFault::Conflict));
    put(&service, "a@x", hour("sip:2")).unwrap();
    assert_eq!(commit_now(&service, vec![stale]), Err(CommitFault::Conflict));
    assert_eq!(contacts(&service, "a@x"), ["sip:2"]);
}

#[test]
fn what_queues_while_the_store_works_is_one_group() {
    let (service, gate) = gated_service(&Config::default());
    let first = commit(&service, vec![change(&service, "a0@x", hour("sip:0"))]);
    assert_eq!(gate.entered.recv().unwrap().len(), 1);
    let rest: Vec<_> = (1..=10)
        .map(|n| commit(&service, vec![change(&service, &format!("a{n}@x"), hour("sip:n"))]))
        .collect();
    assert_eq!(service.counts().queued, 11);
    gate.answers.send(Answer::Stored).unwrap();
    assert_eq!(gate.pass(Answer::Stored).len(), 10);
    assert_eq!(first.recv(), Ok(Ok(())));
    for outcome in rest {
        assert_eq!(outcome.recv(), Ok(Ok(())));
    }
    service.close();
    let counts = service.counts();
    assert_eq!((counts.groups, counts.writes, counts.queued), (2, 11, 0));
}

#[test]
fn a_failed_group_falls_back_to_what_was_committed() {
    let (service, gate) = gated_service(&Config::default());
    let kept = commit(&service, vec![change(&service, "a@x", hour("sip:kept"))]);
    gate.pass(Answer::Stored);
    kept.recv().unwrap().unwrap();
    for answer in [Answer::Failed, Answer::Panic] {
        let lost = commit(&service, vec![change(&service, "a@x", hour("sip:lost"))]);
        gate.entered.recv().unwrap();
        let new = commit(&service, vec![change(&service, "new@x", hour("sip:new"))]);
        gate.answers.send(answer).unwrap();
        assert_eq!(lost.recv(), Ok(Err(CommitFault::Store)));
        gate.pass(answer);
        assert_eq!(new.recv(), Ok(Err(CommitFault::Store)));
        assert_eq!(contacts(&service, "a@x"), ["sip:kept"]);
        assert_eq!(latest_contacts(&service, "a@x"), ["sip:kept"]);
        assert_eq!(service.latest("location", b"new@x").version, 0);
        assert_eq!((service.counts().aors, service.counts().bindings), (1, 1));
    }
    assert_eq!(service.counts().failures, 4);
}

#[test]
fn changes_built_on_a_failed_one_fail_with_it() {
    let (service, gate) = gated_service(&Config::default());
    let first = commit(&service, vec![change(&service, "a@x", hour("sip:1"))]);
    gate.entered.recv().unwrap();
    let second = commit(&service, vec![change(&service, "a@x", hour("sip:2"))]);
    let third = commit(&service, vec![change(&service, "a@x", hour("sip:3"))]);
    let other = commit(&service, vec![change(&service, "b@x", hour("sip:b"))]);
    gate.answers.send(Answer::Failed).unwrap();
    assert_eq!(first.recv(), Ok(Err(CommitFault::Store)));
    let writes = gate.pass(Answer::Stored);
    assert_eq!(writes.len(), 1, "only the change of the other AoR is written");
    assert_eq!(second.recv(), Ok(Err(CommitFault::Conflict)));
    assert_eq!(third.recv(), Ok(Err(CommitFault::Conflict)));
    assert_eq!(other.recv(), Ok(Ok(())));
    assert!(contacts(&service, "a@x").is_empty());
    assert_eq!(latest_contacts(&service, "a@x"), Vec::<String>::new());
}

#[test]
fn a_change_of_several_aors_is_all_or_nothing() {
    let service = memory();
    put(&service, "a@x", hour("sip:a")).unwrap();
    let stale = change(&service, "a@x", hour("sip:stale"));
    put(&service, "a@x", hour("sip:a2")).unwrap();
    let both = vec![change(&service, "b@x", hour("sip:b")), stale];
    assert_eq!(commit_now(&service, both), Err(CommitFault::Conflict));
    assert!(contacts(&service, "b@x").is_empty());
    let twice =
        vec![change(&service, "b@x", hour("sip:b")), change(&service, "b@x", hour("sip:b2"))];
    assert_eq!(commit_now(&service, twice), Err(CommitFault::Conflict));
    let good =
        vec![change(&service, "a@x", hour("sip:a3")), change(&service, "b@x", hour("sip:b"))];
    assert_eq!(commit_now(&service, good), Ok(()));
    assert_eq!(
        (contacts(&service, "a@x"), contacts(&service, "b@x")),
        (vec!["sip:a3".to_owned()], vec!["sip:b".to_owned()])
    );
}

#[test]
fn a_full_queue_refuses_at_once_and_changes_nothing() {
    let config = Config { queue: 2, ..Config::default() };
    let (service, gate) = gated_service(&config);
    let first = commit(&service, vec![change(&service, "a@x", hour("sip:1"))]);
    let second = commit(&service, vec![change(&service, "b@x", hour("sip:2"))]);
    let third = commit(&service, vec![change(&service, "c@x", hour("sip:3"))]);
    assert_eq!(third.try_recv(), Ok(Err(CommitFault::Store)));
    assert_eq!(service.latest("location", b"c@x").version, 0);
    drop(gate);
    assert_eq!((first.recv(), second.recv()), (Ok(Ok(())), Ok(Ok(()))));
}

#[test]
fn limits_refuse_growth_but_not_refreshes() {
    let config =
        Config { max_aors: 2, max_bindings: 3, max_bindings_per_aor: 2, ..Config::default() };
    let service = LocationService::open(&config, NOW_MS).unwrap();
    let later = NOW_MS + 1000;
    let two = || set(&[("sip:1", later), ("sip:2", later)]);
    assert_eq!(
        put(&service, "a@x", set(&[("1", later), ("2", later), ("3", later)])),
        Err(CommitFault::Full)
    );
    assert_eq!(put(&service, "a@x", two()), Ok(()));
    assert_eq!(put(&service, "b@x", two()), Err(CommitFault::Full));
    assert_eq!(put(&service, "b@x", hour("sip:b")), Ok(()));
    assert_eq!(put(&service, "c@x", hour("sip:c")), Err(CommitFault::Full));
    assert_eq!(put(&service, "a@x", two()), Ok(()));
    assert_eq!(put(&service, "a@x", hour("sip:1")), Ok(()));
    assert_eq!(put(&service, "b@x", empty()), Ok(()));
    assert_eq!(put(&service, "c@x", two()), Ok(()));
    assert_eq!((service.counts().aors, service.counts().bindings), (2, 3));
}

#[test]
fn memory_only_changes_are_never_written_and_keep_their_place() {
    let (service, gate) = gated_service(&Config::default());
    let memory_only = |aor: &str, contact: &str| {
        let mut change = change(&service, aor, hour(contact));
        change.memory_only = true;
        commit(&service, vec![change])
    };
    let alone = memory_only("m@x", "sip:m");
    assert_eq!(alone.try_recv(), Ok(Ok(())), "nothing under way: at once");
    let stored = commit(&service, vec![change(&service, "a@x", hour("sip:stored"))]);
    gate.entered.recv().unwrap();
    let behind = memory_only("a@x", "sip:behind");
    assert!(behind.try_recv().is_err(), "behind a change under way: after it");
    gate.answers.send(Answer::Stored).unwrap();
    assert_eq!((stored.recv(), behind.recv()), (Ok(Ok(())), Ok(Ok(()))));
    assert_eq!(contacts(&service, "a@x"), ["sip:behind"]);
    service.close();
    assert_eq!(service.counts().writes, 1);
}

#[test]
fn close_stores_what_is_queued_and_refuses_what_comes_after() {
    let (service, gate) = gated_service(&Config::default());
    let outcomes: Vec<_> = (0..20)
        .map(|n| commit(&service, vec![change(&service, &format!("a{n}@x"), hour("sip:1"))]))
        .collect();
    drop(gate);
    service.close();
    for outcome in outcomes {
        assert_eq!(outcome.try_recv(), Ok(Ok(())));
    }
    assert_eq!(put(&service, "late@x", hour("sip:1")), Err(CommitFault::Store));
    assert_eq!(contacts(&service, "a7@x"), ["sip:1"]);
}

#[test]
fn operators_remove_one_contact_or_all() {
    let service = memory();
    let three = [("sip:1@h", NOW_MS + 9), ("sip:2@h", NOW_MS + 9), ("sip:3@h", NOW_MS + 9)];
    put(&service, "a@x", set(&three)).unwrap();
    assert_eq!(service.remove("location", b"a@x", Some(b"sip:9@h")), Ok(0));
    assert_eq!(service.remove("location", b"a@x", Some(b"sip:2@H")), Ok(1));
    assert_eq!(contacts(&service, "a@x"), ["sip:1@h", "sip:3@h"]);
    assert_eq!(service.remove("location", b"a@x", None), Ok(2));
    assert_eq!(service.remove("location", b"a@x", None), Ok(0));
    assert!(service.get("location", b"a@x").is_none());
}

#[test]
fn pages_show_every_aor_once() {
    let service = memory();
    for n in 0..1000 {
        put(&service, &format!("a{n}@x"), hour("sip:1")).unwrap();
    }
    let (mut seen, mut cursor, mut pages) = (std::collections::HashSet::new(), Some(0), 0);
    while let Some(from) = cursor {
        let (page, next) = service.page(Some("location"), from, 100);
        for (key, set) in page {
            assert_eq!(set.len(), 1);
            assert!(seen.insert(key.aor), "twice in a dump");
        }
        (cursor, pages) = (next, pages + 1);
    }
    assert_eq!(seen.len(), 1000);
    assert!((2..=10).contains(&pages), "{pages}");
    assert_eq!(service.page(Some("other"), 0, 100), (Vec::new(), None));
    assert_eq!(service.page(None, 0, usize::MAX).0.len(), 1000);
}
