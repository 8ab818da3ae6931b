//! In a real PostgreSQL: a refresh writes the AoR's row alone, and whatever happened before it, the
//! rows say what was acknowledged.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers fail by panic

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::database::*;
use common::*;
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::{Change, CommitFault, Location as _};
use viaduct_location::{Config, LocationService, Mode};
use viaduct_tests::support::postgres::Postgres;

const AOR: &str = "u@x";
/// Changes with every change of the rows, also with one to the same.
const VERSIONS: &str = "SELECT position, xmin FROM location ORDER BY aor, position";

fn refreshed(binding: &Binding, later_ms: u64) -> Binding {
    let fields = binding.fields();
    Binding::pack(&BindingFields {
        cseq: fields.cseq + 1,
        expires_ms: fields.expires_ms + later_ms,
        modified_ms: fields.modified_ms + later_ms,
        ..fields
    })
}

/// Commits what `change` makes of the bindings, computed again until no other change came first.
fn change_with(
    service: &LocationService,
    (aor, memory_only): (&str, bool),
    change: impl Fn(&mut Vec<Binding>),
) -> Arc<BindingSet> {
    loop {
        let before = service.latest("location", aor.as_bytes());
        let mut all = before.set.unwrap_or_default().bindings.to_vec();
        change(&mut all);
        let set = Arc::new(BindingSet { bindings: all.into() });
        let (based_on, changed) = (before.version, Arc::clone(&set));
        let change = Change { key: key(aor), based_on, set: changed, memory_only };
        match commit_now(service, vec![change]) {
            Ok(()) => return set,
            Err(CommitFault::Conflict) => {}
            Err(fault) => panic!("{fault}"),
        }
    }
}

fn refresh(service: &LocationService, contact: &str) {
    change_with(service, (AOR, false), |all| {
        let one = all.iter_mut().find(|one| one.contact() == contact.as_bytes()).unwrap();
        *one = refreshed(one, 5_000);
    });
}

/// What a router that starts now reads.
fn stored(server: &Postgres, aor: &str) -> Vec<Binding> {
    let set = open(server, "reader").get("location", aor.as_bytes());
    set.unwrap_or_default().bindings.to_vec()
}

/// Does so much leave the rows of `location` alone?
fn leaves_rows(server: &Postgres, work: impl FnOnce()) -> bool {
    let before = server.sql(VERSIONS).unwrap();
    work();
    before == server.sql(VERSIONS).unwrap()
}

#[test]
fn a_refresh_leaves_the_rows_of_bindings_alone_and_all_routers_know_it() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    put(&a, AOR, live(&["sip:1", "sip:2"])).unwrap();
    let first = a.get("location", AOR.as_bytes()).unwrap();
    assert!(leaves_rows(&server, || refresh(&a, "sip:2")));
    assert!(leaves_rows(&server, || refresh(&a, "sip:2")));
    let expires_ms = first.bindings[1].expires_ms() + 10_000;
    let second_expires = |all: &[Binding]| all.get(1).is_some_and(|b| b.expires_ms() == expires_ms);
    assert!(second_expires(&stored(&server, AOR)));
    eventually("b knows it", || {
        second_expires(&b.get("location", AOR.as_bytes()).unwrap_or_default().bindings)
    });
    // Another phone's text is written, and the rows of others are not.
    assert!(!leaves_rows(&server, || {
        change_with(&a, (AOR, false), |all| all.push(binding("sip:3", now_ms() + 60_000)));
    }));
    assert!(leaves_rows(&server, || refresh(&a, "sip:3")));
    assert_eq!(contacts(&open(&server, "reader"), AOR), ["sip:1", "sip:2", "sip:3"]);
}

#[test]
fn a_ping_latency_does_not_make_the_next_refresh_write_everything() {
    let Some(server) = server() else { return };
    let a = open(&server, "a");
    put(&a, AOR, live(&["sip:1"])).unwrap();
    change_with(&a, (AOR, true), |all| all[0] = all[0].with_ping_us(Some(900)));
    assert!(leaves_rows(&server, || refresh(&a, "sip:1")));
}

#[test]
fn the_first_refresh_after_a_restart_or_at_another_router_says_who_has_the_phone_now() {
    let Some(server) = server() else { return };
    put(&open(&server, "a"), AOR, live(&["sip:1"])).unwrap();
    let home = "SELECT node, boot FROM location";
    let before = server.sql(home).unwrap();
    let again = open(&server, "a");
    refresh(&again, "sip:1");
    let after = server.sql(home).unwrap();
    assert!(after != before && after.starts_with("a|"), "{before} {after}");
    let b = open(&server, "b");
    refresh(&b, "sip:1");
    assert!(server.sql(home).unwrap().starts_with("b|"));
    assert!(leaves_rows(&server, || refresh(&b, "sip:1")));
}

#[test]
fn where_rows_were_left_out_the_next_refresh_writes_all() {
    let Some(server) = server() else { return };
    put(&open(&server, "a"), AOR, live(&["sip:1", "sip:2"])).unwrap();
    server.sql("UPDATE location SET socket = 'here' WHERE contact = 'sip:1'").unwrap();
    let a = open(&server, "a");
    assert_eq!(contacts(&a, AOR), ["sip:2"]);
    refresh(&a, "sip:2");
    let rows = "SELECT position, contact, socket FROM location";
    assert_eq!(server.sql(rows).unwrap(), "0|sip:2|udp:192.0.2.1:5060");
}

#[test]
fn r_u2_refreshes_that_are_written_back_leave_the_rows_alone_too() {
    let Some(server) = server() else { return };
    let Mode::WriteThrough(backend) = config(&server, "a").mode else { panic!() };
    let mode = Mode::WriteBack(backend, Duration::from_millis(20));
    let a = LocationService::open(&Config { mode, ..Config::default() }, now_ms()).unwrap();
    put(&a, AOR, live(&["sip:1"])).unwrap();
    eventually("it is stored", || stored(&server, AOR).len() == 1);
    let times = |all: &[Binding]| all.first().map(|one| (one.fields().cseq, one.expires_ms()));
    let same = || times(&a.get("location", AOR.as_bytes()).unwrap_or_default().bindings);
    assert!(leaves_rows(&server, || {
        refresh(&a, "sip:1");
        refresh(&a, "sip:1");
        eventually("they are stored", || times(&stored(&server, AOR)) == same());
    }));
}

/// A router that stores what it has acknowledged when it is closed, and not before.
fn writing_back(server: &Postgres, node: &str) -> LocationService {
    let Mode::WriteThrough(backend) = config(server, node).mode else { panic!() };
    let mode = Mode::WriteBack(backend, Duration::from_secs(3600));
    LocationService::open(&Config { mode, ..Config::default() }, now_ms()).unwrap()
}

/// What the database does with an AoR that was removed or has expired long ago.
const FORGET: &str =
    "DELETE FROM location_aor WHERE aor = 'u@x'; DELETE FROM location WHERE aor = 'u@x'";

#[test]
fn what_was_acknowledged_of_an_aor_the_database_has_forgotten_is_stored() {
    let Some(server) = server() else { return };
    put(&open(&server, "a"), AOR, live(&["sip:1"])).unwrap();
    let a = writing_back(&server, "a");
    refresh(&a, "sip:1");
    change_with(&a, (AOR, false), |all| all.push(binding("sip:2", now_ms() + 3_600_000)));
    // Away for longer than removals are kept: everything is read again.
    server.sql(&format!("{FORGET}; UPDATE location_clock SET era = era + 1")).unwrap();
    put(&open(&server, "b"), "v@x", live(&["sip:3"])).unwrap();
    eventually("that is done", || contacts(&a, "v@x") == ["sip:3"]);
    a.close();
    assert_eq!(contacts(&open(&server, "reader"), AOR), ["sip:1", "sip:2"]);
}

#[test]
fn what_is_refused_at_the_end_is_merged_and_stored_before_the_router_goes() {
    let Some(server) = server() else { return };
    put(&open(&server, "a"), AOR, live(&["sip:1"])).unwrap();
    let a = writing_back(&server, "a");
    refresh(&a, "sip:1");
    server.sql(FORGET).unwrap(); // and nobody is told
    a.close();
    assert_eq!(contacts(&open(&server, "reader"), AOR), ["sip:1"]);
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What a store has of a binding, and at which router the phone registered.
fn plain(binding: &Binding, here: &str) -> String {
    let node = binding.home().map_or(here, |home| &home.node).to_owned();
    format!("{node} {:?}", BindingFields { conn: viaduct_engine::ConnId::NONE, ..binding.fields() })
}

/// One change of some kind, by `service`; what the store has afterwards, where that is another.
fn play(dice: &mut Dice, service: &LocationService, aor: &str) -> Option<Arc<BindingSet>> {
    let (kind, which, later_ms) = (dice.roll(10), dice.roll(4), 1_000 + dice.roll(1_000));
    let contact = format!("sip:{which}");
    let text = ["", "x", "y"][dice.roll(3) as usize];
    let memory_only = matches!(kind, 7 | 8);
    let soon_ms = now_ms() + [600_000, 7_200_000][dice.roll(2) as usize];
    if kind == 9 {
        // Time passes at this router: what ends in ten minutes has ended.
        service.expire(now_ms() + 1_200_000, 100);
        return None;
    }
    let set = change_with(service, (aor, memory_only), |all| {
        let at = all.iter().position(|one| one.contact() == contact.as_bytes());
        match (kind, at) {
            (0 | 1, None) => all.push(binding(&contact, soon_ms)),
            (2, Some(at)) => drop(all.remove(at)),
            (3, _) => all.clear(),
            (4, Some(at)) => {
                let fields = all[at].fields();
                let user_agent = text.as_bytes();
                all[at] = Binding::pack(&BindingFields { user_agent, ..fields });
            }
            (7, Some(at)) => all[at] = all[at].with_ping_us(Some(which as u32)),
            // As a REGISTER here does, wherever it was before.
            (_, Some(at)) => all[at] = refreshed(&all[at], later_ms),
            (_, None) => {}
        }
    });
    (!memory_only).then_some(set)
}

#[test]
fn whatever_two_routers_do_the_rows_say_what_was_acknowledged_last() {
    let Some(server) = server() else { return };
    let nodes = ["a", "b"].map(|node| (node, open(&server, node)));
    let aors = ["one@x", "two@x"];
    let mut expected = [Vec::new(), Vec::new()];
    let mut dice = Dice(7);
    for step in 0..150 {
        let (node, service) = &nodes[dice.roll(2) as usize];
        let which = dice.roll(2) as usize;
        if let Some(set) = play(&mut dice, service, aors[which]) {
            expected[which] = set.bindings.iter().map(|one| plain(one, node)).collect();
        }
        let reader = open(&server, "reader");
        for (aor, expected) in aors.iter().zip(&expected) {
            let read = reader.get("location", aor.as_bytes()).unwrap_or_default();
            let read: Vec<String> = read.bindings.iter().map(|one| plain(one, "reader")).collect();
            assert_eq!(&read, expected, "step {step} of {aor}");
        }
    }
}
