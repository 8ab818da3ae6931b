//! Who is pinged when, and what silence and answers do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;

use common::{NOW_MS, contacts, hour, key, put, set};
use viaduct_engine::{Location as _, PingId};
use viaduct_location::{Config, Due, Keepalive, KeepaliveConfig, LocationService};

const INTERVAL_MS: u64 = 30_000;

fn config() -> KeepaliveConfig {
    KeepaliveConfig { interval_ms: INTERVAL_MS, nated_only: true, max_lost: 3 }
}

/// Phones in memory, and the pings of one worker or of several.
struct Bench {
    service: LocationService,
    workers: Vec<Keepalive>,
    now_ms: u64,
}

impl Bench {
    fn new(workers: usize, phones: usize) -> Bench {
        let service = LocationService::open(&Config::default(), NOW_MS).unwrap();
        for phone in 0..phones {
            let contact = format!("sip:{phone}@192.0.2.4");
            put(&service, &format!("{phone}@example.com"), hour(&contact)).unwrap();
        }
        let workers = (0..workers).map(|n| Keepalive::new(config(), n, workers)).collect();
        Bench { service, workers, now_ms: NOW_MS }
    }

    /// Moves the clock in steps of `step_ms`; what falls due, with when.
    fn run(&mut self, ms: u64, step_ms: u64) -> Vec<(u64, Due)> {
        let mut all = Vec::new();
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            for worker in &mut self.workers {
                let due = worker.due(&self.service, self.now_ms, self.now_ms * 1000, 10_000);
                all.extend(due.into_iter().map(|due| (self.now_ms, due)));
            }
            self.now_ms += step_ms;
        }
        all
    }
}

impl Bench {
    /// Moves the clock to the next ping.
    fn next_ping(&mut self) -> PingId {
        for _ in 0..2 * INTERVAL_MS / 10 {
            if let Some((_, Due::Ping(id, _))) = self.run(10, 10).first() {
                return *id;
            }
        }
        panic!("nobody is pinged")
    }
}

fn pinged(due: &[(u64, Due)]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, due) in due {
        if let Due::Ping(_, binding) = due {
            *counts.entry(String::from_utf8(binding.contact().to_vec()).unwrap()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn each_contact_is_pinged_once_a_round_by_one_worker() {
    let mut bench = Bench::new(3, 500);
    // To the beginning of a round: parts are counted from 1970.
    bench.now_ms = bench.now_ms.next_multiple_of(INTERVAL_MS);
    bench.run(INTERVAL_MS, 50);
    let counts = pinged(&bench.run(10 * INTERVAL_MS, 50));
    assert_eq!(counts.len(), 500);
    let worst = counts.values().map(|count| count.abs_diff(10)).max().unwrap();
    assert!(worst <= 1, "{counts:?}");
}

#[test]
fn pings_are_spread_evenly_over_the_round() {
    let mut bench = Bench::new(1, 5_000);
    bench.run(INTERVAL_MS, 50);
    let mut by_second = BTreeMap::new();
    for (at_ms, _) in bench.run(INTERVAL_MS, 50) {
        *by_second.entry(at_ms / 1000).or_insert(0u32) += 1;
    }
    let most = by_second.values().max().unwrap();
    assert!(*most < 3 * 5_000 / 30, "{by_second:?}");
}

#[test]
fn a_worker_may_send_few_in_a_turn_and_loses_none() {
    let mut bench = Bench::new(1, 50);
    let mut left = 2 * INTERVAL_MS;
    let mut all = Vec::new();
    while left > 0 {
        let due = bench.workers[0].due(&bench.service, bench.now_ms, 0, 1);
        all.extend(due.into_iter().map(|due| (0, due)));
        bench.now_ms += 100;
        left -= 100;
    }
    assert_eq!(pinged(&all).len(), 50);
}

#[test]
fn a_contact_that_answers_nothing_is_removed_and_one_that_answers_is_not() {
    let mut bench = Bench::new(1, 1);
    let mut answered = 0;
    for round in 0..10 {
        let due = bench.run(INTERVAL_MS, 100);
        if round == 5 {
            break;
        }
        for (_, due) in due {
            let Due::Ping(id, _) = due else { panic!("dead in round {round}") };
            bench.workers[0].sent(id);
            if round % 2 == 0 {
                bench.workers[0].answered(id, &bench.service, bench.now_ms * 1000).unwrap();
                answered += 1;
            }
        }
    }
    assert!(answered >= 2);
    let mut dead = Vec::new();
    for _ in 0..8 {
        for (_, due) in bench.run(INTERVAL_MS, 100) {
            match due {
                Due::Ping(id, _) => bench.workers[0].sent(id),
                Due::Dead(key, contact) => dead.push((key, contact)),
                Due::StandIn(..) => panic!("there is no other router"),
            }
        }
    }
    let expected = (key("0@example.com"), b"sip:0@192.0.2.4"[..].into());
    assert_eq!(dead, [expected]);
    assert!(contacts(&bench.service, "0@example.com").is_empty());
}

#[test]
fn an_answer_puts_the_latency_into_the_binding_where_a_refresh_keeps_it() {
    let mut bench = Bench::new(1, 1);
    let id = bench.next_ping();
    bench.workers[0].sent(id);
    // It was sent one step of the clock before.
    let latency = bench.workers[0].answered(id, &bench.service, bench.now_ms * 1000).unwrap();
    assert_eq!(latency, 10_000);
    let set = bench.service.get("location", b"0@example.com").unwrap();
    assert_eq!(set.bindings[0].ping_us(), Some(latency));
    assert_eq!(bench.workers[0].answered(id, &bench.service, 0), None, "one answer a ping");
    let stranger = PingId { generation: id.generation + 1, ..id };
    assert_eq!(bench.workers[0].answered(stranger, &bench.service, 0), None);
}

#[test]
fn contacts_that_are_gone_or_not_behind_nat_are_not_pinged() {
    let mut bench = Bench::new(1, 1);
    let open = set(&[("sip:open@192.0.2.5", NOW_MS + 3_600_000)]);
    let mut fields = open.bindings[0].fields();
    fields.nat = false;
    let open = viaduct_engine::registrar::BindingSet {
        bindings: [viaduct_engine::registrar::Binding::pack(&fields)].into(),
    };
    put(&bench.service, "open@example.com", open.into()).unwrap();
    put(&bench.service, "0@example.com", set(&[("sip:0@192.0.2.4", NOW_MS + 1)])).unwrap();
    assert!(pinged(&bench.run(2 * INTERVAL_MS, 100)).is_empty());
}
