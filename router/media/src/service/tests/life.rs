//! Limits, faults, and calls that end by themselves.

use super::*;

fn offer(call_id: &str) -> Message {
    Message { call_id: call_id.to_owned(), ..Message::invite("a") }.with(&sdp("192.0.2.1", 4_000))
}

fn answered(stand: &Stand, call_id: &str, direction: &str) -> SocketAddr {
    let offer = offer(call_id);
    stand.manage(&offer).unwrap();
    let text = sdp("192.0.2.2", 5_000) + direction;
    place(&stand.manage(&offer.answer(200, "b").with(&text)).unwrap())
}

#[test]
fn a_call_that_is_silent_for_too_long_ends() {
    let mut stand = Stand::new();
    let for_a = answered(&stand, "call", "");
    stand.pass(50);
    assert!(stand.packet(for_a, "192.0.2.1:4000").is_some());
    stand.pass(50);
    assert!(stand.records.lock().unwrap().is_empty(), "one packet is a sign of life");
    stand.pass(11);
    assert_eq!(stand.last_record().reason.word(), "idle");
    stand.check_empty();
}

#[test]
fn on_hold_it_may_be_silent_for_longer() {
    let mut stand = Stand::new();
    answered(&stand, "call", "a=inactive\r\n");
    for _ in 0..59 {
        stand.pass(60);
    }
    assert!(stand.records.lock().unwrap().is_empty());
    stand.pass(60);
    stand.pass(60);
    assert_eq!(stand.last_record().reason.word(), "idle");
    stand.check_empty();
}

#[test]
fn a_call_nobody_answers_and_one_that_never_ends_have_an_end() {
    let mut stand = Stand::new();
    stand.manage(&offer("call")).unwrap();
    stand.pass(599);
    let for_a = answered(&stand, "second", "");
    stand.pass(1);
    assert_eq!(stand.last_record().reason.word(), "unanswered");
    for _ in 0..7_199 / 30 {
        stand.packet(for_a, "192.0.2.1:4000").unwrap();
        stand.pass(30);
    }
    assert_eq!(stand.records.lock().unwrap().len(), 1);
    stand.packet(for_a, "192.0.2.1:4000").unwrap();
    stand.pass(30);
    assert_eq!(stand.last_record().reason.word(), "lifetime");
    stand.check_empty();
}

#[test]
fn too_many_calls_are_refused_as_busy_and_no_port_is_lost() {
    let mut stand = Stand::new();
    for n in 0..10 {
        stand.manage(&offer(&n.to_string())).unwrap();
    }
    let refused = stand.manage(&offer("one more")).unwrap_err();
    assert_eq!((refused.status(), stand.service.numbers().refused_busy), (503, 1));
    assert_eq!(stand.service.kill(stand.now(), b"3"), 1);
    assert_eq!(stand.last_record().reason.word(), "killed");
    stand.manage(&offer("one more")).unwrap();
    stand.service.close(stand.now());
    assert_eq!(stand.last_record().reason.word(), "stopped");
    stand.check_empty();
}

#[test]
fn without_ports_a_call_is_refused_as_busy() {
    let mut small = config();
    small.interfaces[0].ports = 30_000..=30_001;
    let stand = Stand::with(small);
    // Both sides of a call are on this address, and there is one pair.
    assert_eq!(stand.manage(&offer("call")).unwrap_err().status(), 503);
    assert!(stand.service.list(stand.now(), 9).is_empty());
    assert_eq!(stand.desk.0.lock().unwrap().sessions, 0);
}

#[test]
fn a_description_that_cannot_be_relayed_is_not_acceptable_and_leaves_nothing() {
    let mut stand = Stand::new();
    for text in [
        "v=1\r\n".to_owned(),
        sdp("192.0.2.1", 4_000).replace("m=audio 4000", "m=audio 4000/2"),
        sdp("192.0.2.1", 4_000).replace("c=IN IP4 192.0.2.1\r\n", ""),
    ] {
        let fault = stand.manage(&Message::invite("a").with(&text)).unwrap_err();
        assert_eq!(fault.status(), 488, "{fault}");
    }
    stand.check_empty();
}

#[test]
fn ports_somebody_else_has_are_passed_over() {
    let mut stand = Stand::new();
    stand.desk.0.lock().unwrap().taken = (30_000..30_100).collect();
    let mut relayed = 0;
    for n in 0..40 {
        let offer = offer(&n.to_string());
        match stand.manage(&offer) {
            Ok(text) => {
                assert!(place(&text).port() >= 30_100);
                relayed += 1;
                stand.refused(&offer, None);
            }
            Err(fault) => assert_eq!(fault.status(), 500),
        }
    }
    assert!(relayed > 0);
    stand.desk.0.lock().unwrap().taken.clear();
    stand.check_empty();
}

#[test]
fn interfaces_that_share_ports_or_names_are_refused() {
    let sink = || Box::new(|_| {}) as super::super::Sink;
    let refused = |change: &dyn Fn(&mut Vec<Interface>)| {
        let mut config = config();
        change(&mut config.interfaces);
        Service::new(config, Box::new(Desk::default()), sink()).err().unwrap().to_string()
    };
    assert_eq!(refused(&|all| all.clear()), "no address for media");
    assert!(refused(&|all| all[1].name = "v4".into()).contains("two media addresses"));
    assert!(refused(&|all| all[1].ip = all[0].ip).contains("share ports"));
    let v4 = "192.0.2.1".parse().ok();
    assert!(refused(&|all| all[1].advertised = v4).contains("two families"));
    assert!(refused(&|all| all[0].ports = 9..=9).contains("even port"));
}
