//! Dispatcher: who is chosen, who follows, and who is up.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::PingId;

fn dispatcher(weights: &[u16]) -> Dispatcher {
    let config = |(n, weight): (usize, &u16)| DestinationConfig {
        set: "gw".into(),
        uri: format!("sip:192.0.2.{n}").into(),
        weight: *weight,
        priority: n as u16,
        attributes: "".into(),
    };
    Dispatcher::new(weights.iter().enumerate().map(config), Thresholds::default())
}

fn first(dispatcher: &Dispatcher, algorithm: Algorithm, seed: u64) -> String {
    let order = dispatcher.sets()[0].order(algorithm, seed);
    order.first().map(|d| d.config().uri.to_string()).unwrap_or_default()
}

#[test]
fn round_robin_takes_each_in_turn() {
    let dispatcher = dispatcher(&[1, 1, 1]);
    let taken: Vec<String> = (0..6)
        .map(|_| {
            let uri = first(&dispatcher, Algorithm::RoundRobin, 0);
            dispatcher.apply(&DispatcherChange::Turn("gw".into()));
            uri
        })
        .collect();
    assert_eq!(taken[..3], ["sip:192.0.2.0", "sip:192.0.2.1", "sip:192.0.2.2"]);
    assert_eq!(taken[..3], taken[3..]);
}

#[test]
fn weights_are_shares() {
    let dispatcher = dispatcher(&[1, 3]);
    let heavy = (0..4000u64)
        .filter(|n| first(&dispatcher, Algorithm::Weighted, n.wrapping_mul(7919)).ends_with(".1"))
        .count();
    assert!((2850..3150).contains(&heavy), "{heavy}");
}

#[test]
fn priority_is_the_order_and_the_rest_is_the_fail_over_list() {
    let dispatcher = dispatcher(&[1, 1, 1]);
    let order = dispatcher.sets()[0].order(Algorithm::Priority, 0);
    let uris: Vec<&str> = order.iter().map(|d| &*d.config().uri).collect();
    assert_eq!(uris, ["sip:192.0.2.2", "sip:192.0.2.1", "sip:192.0.2.0"]);
}

#[test]
fn three_signs_of_death_take_a_destination_out_and_one_of_life_brings_it_back() {
    let dispatcher = dispatcher(&[1, 1]);
    let sign =
        |alive| DispatcherChange::Sign { set: "gw".into(), uri: "sip:192.0.2.0".into(), alive };
    for expected in [false, false, true] {
        assert_eq!(dispatcher.apply(&sign(false)).is_some(), expected);
    }
    assert_eq!(dispatcher.sets()[0].order(Algorithm::Priority, 0).len(), 1);
    assert!(dispatcher.apply(&sign(true)).is_some());
    assert_eq!(dispatcher.sets()[0].order(Algorithm::Priority, 0).len(), 2);
    // What an operator has taken out no sign brings back.
    dispatcher.sets()[0].destinations()[0].set_state(State::Disabled);
    assert!(dispatcher.apply(&sign(true)).is_none());
    assert_eq!(dispatcher.sets()[0].destinations()[0].state(), State::Disabled);
}

#[test]
fn a_new_configuration_keeps_the_states_of_those_that_stay() {
    let old = dispatcher(&[1, 1]);
    old.sets()[0].destinations()[1].set_state(State::Down);
    let probed = Probed { status: 503, latency_us: 7 };
    old.sets()[0].destinations()[1].set_probed(probed);
    let new = dispatcher(&[5, 5, 5]).succeeding(&old);
    let states: Vec<State> = new.sets()[0].destinations().iter().map(Destination::state).collect();
    assert_eq!(states, [State::Up, State::Down, State::Up]);
    assert_eq!(new.sets()[0].destinations()[1].probed(), Some(probed));
    assert_eq!(new.sets()[0].destinations()[0].probed(), None);
}

#[test]
fn probes_find_who_is_dead_and_who_is_back() {
    let shared = Arc::new(dispatcher(&[1]));
    let probing =
        Probing { interval_us: 1000, timeout_us: 300, from: "sip:probe@example.com".into() };
    let mut prober = Prober::new(Arc::clone(&shared), probing, 0).unwrap();
    let state = || shared.sets()[0].destinations()[0].state();
    let mut changes = 0;
    for round in 0..3 {
        let pings = prober.due(round * 1000, &mut |_| changes += 1);
        assert_eq!((pings.len(), state()), (1, State::Up));
        assert_eq!(prober.next_us(), round * 1000 + 300);
        assert!(prober.due(round * 1000 + 300, &mut |_| changes += 1).is_empty());
    }
    assert_eq!((changes, state()), (1, State::Down));
    let probed = || shared.sets()[0].destinations()[0].probed();
    assert_eq!(probed(), Some(Probed { status: 0, latency_us: 0 }), "no answer");
    let ping = prober.due(3000, &mut |_| {}).pop().unwrap();
    let stale = PingId { generation: ping.id.generation.wrapping_sub(1), ..ping.id };
    assert!(prober.answered(stale, 200, 3100, &mut |_| changes += 1) && state() == State::Down);
    // 405 is an answer of somebody who lives; 503 is not.
    assert!(prober.answered(ping.id, 405, 3120, &mut |_| changes += 1));
    assert_eq!(probed(), Some(Probed { status: 405, latency_us: 120 }));
    assert_eq!((changes, state()), (2, State::Up));
    assert!(!probe::is_alive(503) && !probe::is_alive(408) && probe::is_alive(501));
    let contact = PingId { slot: 3, generation: 1 };
    assert!(!prober.answered(contact, 200, 3130, &mut |_| {}));
}

proptest! {
    /// A destination that goes down moves its own requests and no others, and the order behind it
    /// is where they go.
    #[test]
    fn hashing_moves_only_the_share_of_who_went_down(texts in proptest::collection::vec(".{1,20}", 50)) {
        let dispatcher = dispatcher(&[1, 2, 3, 4]);
        let set = &dispatcher.sets()[0];
        let chosen = |text: &String| {
            let order = set.order(Algorithm::of_text(text.as_bytes()), 0);
            order.iter().map(|d| d.config().uri.clone()).collect::<Vec<_>>()
        };
        let before: Vec<_> = texts.iter().map(chosen).collect();
        set.destinations()[1].set_state(State::Down);
        for (text, before) in texts.iter().zip(before) {
            let after = chosen(text);
            let left: Vec<_> =
                before.into_iter().filter(|uri| **uri != *"sip:192.0.2.1").collect();
            prop_assert_eq!(after, left);
        }
    }
}
