//! Bindings end on time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers fail by panic

mod common;

use std::sync::Arc;

use common::*;
use viaduct_engine::registrar::BindingSet;
use viaduct_location::{Config, Expired, LocationService};

fn memory() -> LocationService {
    LocationService::open(&Config::default(), NOW_MS).unwrap()
}

fn expired(aor: &str, contacts: &[&str], left: usize) -> Expired {
    let contacts = contacts.iter().map(|contact| contact.as_bytes().into()).collect();
    Expired { key: key(aor), contacts, left }
}

#[test]
fn bindings_go_when_their_time_has_come_and_not_before() {
    let service = memory();
    put(&service, "a@x", set(&[("sip:1", NOW_MS + 1500), ("sip:2", NOW_MS + 4000)])).unwrap();
    assert_eq!(service.expire(NOW_MS + 1499, 100), []);
    assert_eq!(service.expire(NOW_MS + 2000, 100), [expired("a@x", &["sip:1"], 1)]);
    assert_eq!(contacts(&service, "a@x"), ["sip:2"]);
    assert_eq!(service.expire(NOW_MS + 3999, 100), []);
    assert_eq!(service.expire(NOW_MS + 4000, 100), [expired("a@x", &["sip:2"], 0)]);
    let counts = service.counts();
    assert_eq!((counts.aors, counts.bindings, counts.memory_bytes), (0, 0, 0));
}

#[test]
fn a_refresh_moves_the_end_in_both_directions() {
    let service = memory();
    put(&service, "a@x", set(&[("sip:1", NOW_MS + 10_000)])).unwrap();
    put(&service, "a@x", set(&[("sip:1", NOW_MS + 60_000)])).unwrap();
    assert_eq!(service.expire(NOW_MS + 10_000, 100), []);
    assert_eq!(service.expire(NOW_MS + 59_999, 100), []);
    put(&service, "a@x", set(&[("sip:1", NOW_MS + 20_000)])).unwrap();
    assert_eq!(service.expire(NOW_MS + 20_000, 100), [expired("a@x", &["sip:1"], 0)]);
}

#[test]
fn a_stale_change_does_not_bring_an_expired_binding_back() {
    let service = memory();
    put(&service, "a@x", set(&[("sip:1", NOW_MS + 1000), ("sip:2", NOW_MS + 9000)])).unwrap();
    let stale = change(&service, "a@x", hour("sip:1"));
    service.expire(NOW_MS + 1000, 100);
    assert!(commit_now(&service, vec![stale]).is_err());
    assert_eq!(contacts(&service, "a@x"), ["sip:2"]);
}

#[test]
fn a_budget_bounds_one_call_and_later_calls_finish() {
    let service = memory();
    for n in 0..500 {
        put(&service, &format!("a{n}@x"), set(&[("sip:1", NOW_MS + 1000)])).unwrap();
    }
    let mut gone = 0;
    loop {
        let expired = service.expire(NOW_MS + 1000, 60).len();
        assert!(expired <= 60);
        gone += expired;
        if expired < 60 {
            break;
        }
    }
    assert_eq!(gone, 500);
    assert_eq!(service.counts().aors, 0);
}

#[test]
fn a_change_under_way_is_left_alone_and_indexed_when_it_ends() {
    let (store, gate) = gated();
    let service = LocationService::open_with(&Config::default(), Box::new(store), NOW_MS).unwrap();
    let first = commit(&service, vec![change(&service, "a@x", set(&[("sip:1", NOW_MS + 1000)]))]);
    gate.pass(Answer::Stored);
    first.recv().unwrap().unwrap();
    let next = set(&[("sip:1", NOW_MS + 5000)]);
    let refresh = commit(&service, vec![change(&service, "a@x", next)]);
    assert_eq!(gate.entered.recv().unwrap().len(), 1);
    assert_eq!(service.expire(NOW_MS + 2000, 100), [], "the refresh is not lost");
    gate.answers.send(Answer::Stored).unwrap();
    refresh.recv().unwrap().unwrap();
    assert_eq!(service.expire(NOW_MS + 4999, 100), []);
    assert_eq!(service.expire(NOW_MS + 5000, 100), [expired("a@x", &["sip:1"], 0)]);
    let writes = gate.pass(Answer::Stored);
    assert!(writes.len() == 1 && writes[0].set.is_empty(), "gone from the store, too");
}

#[test]
fn expiry_holds_across_a_restart() {
    let folder = Folder::new();
    let backend = viaduct_location::Backend::File(folder.file("location.redb"));
    let mode = viaduct_location::Mode::WriteThrough(backend);
    let config = Config { mode, ..Config::default() };
    let service = LocationService::open(&config, NOW_MS).unwrap();
    put(&service, "a@x", set(&[("sip:1", NOW_MS + 1000), ("sip:2", NOW_MS + 9000)])).unwrap();
    put(&service, "b@x", set(&[("sip:3", NOW_MS + 2000)])).unwrap();
    drop(service);
    let service = LocationService::open(&config, NOW_MS + 5000).unwrap();
    assert_eq!(contacts(&service, "a@x"), ["sip:2"]);
    assert_eq!(contacts(&service, "b@x"), Vec::<String>::new());
    assert_eq!(service.expire(NOW_MS + 9000, 100), [expired("a@x", &["sip:2"], 0)]);
    drop(service);
    // Even an earlier clock finds nothing: what had expired was removed from the store.
    let service = LocationService::open(&config, NOW_MS).unwrap();
    assert_eq!(service.counts().aors, 0);
}

#[test]
fn many_aors_expire_each_in_its_second() {
    let service = memory();
    let end_s = |n: u64| 1 + n * 7919 % 300;
    for n in 0..2000 {
        let ends = NOW_MS + end_s(n) * 1000;
        put(&service, &format!("a{n}@x"), set(&[("sip:1", ends)])).unwrap();
    }
    for second in 1..=300 {
        let gone = service.expire(NOW_MS + second * 1000, usize::MAX).len();
        let expected = (0..2000).filter(|n| end_s(*n) == second).count();
        assert_eq!(gone, expected, "second {second}");
    }
    put(&service, "a@x", Arc::new(BindingSet::default())).unwrap();
    assert_eq!(service.counts().memory_bytes, 0);
}
