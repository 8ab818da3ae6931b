//! What RFC 3261 17 (with RFC 6026 and RFC 4320) demands of the four machines, section by section.
//! The tables themselves are in `transaction_tables.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests may fail loudly

use viaduct_engine::settings::TimerValues;
use viaduct_engine::timer::{Letter, Timers};
use viaduct_engine::transaction::duration::AT_T2;
use viaduct_engine::transaction::{
    Actions, Step, duration_us, invite_client as ict, invite_server as ist,
    non_invite_client as nict, non_invite_server as nist,
};

const BOTH: [bool; 2] = [false, true];

fn step<S>(next: S, actions: Actions) -> Option<Step<S>> {
    Some(Step { next, actions })
}

/// Runs a machine on its own timers until it ends; `sent` are the times in ms at which it did
/// `what`, the start included.
fn run<S: Copy + PartialEq, E>(
    start: Step<S>,
    apply: impl Fn(S, E) -> Option<Step<S>>,
    event_of_timer: impl Fn(Letter) -> Option<E>,
    what: Actions,
) -> (Vec<u64>, u64) {
    let values = TimerValues::default();
    let mut timers = Timers::new();
    let mut attempts = [0u32; 16];
    let mut sent = Vec::new();
    let (mut step, mut now_us) = (start, 0);
    loop {
        if step.actions.has(what) {
            sent.push(now_us / 1_000);
        }
        if step.actions.has(Actions::FORGET) {
            return (sent, now_us / 1_000);
        }
        for letter in step.actions.armed() {
            let attempt = attempts.get_mut(letter as usize).unwrap();
            if step.actions.has(Actions::E_AT_T2) {
                *attempt = AT_T2;
            }
            timers.arm(now_us, duration_us(letter, *attempt, false, &values), letter, 0u32, 0);
            *attempt = attempt.saturating_add(1);
        }
        let state = step.next;
        step = loop {
            now_us = timers.next_deadline_us().expect("a timer runs until the end");
            let due = timers.pop_due(now_us).expect("due at its deadline");
            if let Some(next) = event_of_timer(due.letter).and_then(|e| apply(state, e)) {
                break next;
            }
        };
    }
}

#[test]
fn s17_1_1_2_invite_is_repeated_at_doubling_intervals_until_timer_b() {
    let (sent, end) = run(
        ict::start(false),
        |s, e| ict::step(s, e, false),
        ict::Event::of_timer,
        Actions::SEND_REQUEST,
    );
    assert_eq!(sent, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(end, 32_000);
}

#[test]
fn s17_1_2_2_requests_are_repeated_at_intervals_up_to_t2_until_timer_f() {
    let (sent, end) = run(
        nict::start(false),
        |s, e| nict::step(s, e, false),
        nict::Event::of_timer,
        Actions::SEND_REQUEST,
    );
    assert_eq!(sent, [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!(end, 32_000);
}

#[test]
fn s17_1_2_2_after_a_provisional_requests_are_repeated_every_t2() {
    let provisional = Step {
        next: nict::State::Proceeding,
        actions: Actions::ARM_E | Actions::ARM_F | Actions::SEND_REQUEST,
    };
    let (sent, end) = run(
        provisional,
        |s, e| nict::step(s, e, false),
        nict::Event::of_timer,
        Actions::SEND_REQUEST,
    );
    assert_eq!(sent, [0, 500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500]);
    assert_eq!(end, 32_000);
}

#[test]
fn s17_2_1_failures_are_repeated_at_intervals_up_to_t2_until_timer_h() {
    let sent_486 = ist::step(ist::State::Proceeding, ist::Event::TuFailure, false).unwrap();
    let (sent, end) = run(
        sent_486,
        |s, e| ist::step(s, e, false),
        ist::Event::of_timer,
        Actions::RESEND_RESPONSE,
    );
    assert_eq!(sent, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    assert_eq!(end, 32_000);
}

#[test]
fn s17_1_1_2_retransmission_timers_are_not_armed_on_reliable_transports() {
    assert_eq!(ict::start(true).actions, Actions::SEND_REQUEST | Actions::ARM_B);
    assert_eq!(nict::start(true).actions, Actions::SEND_REQUEST | Actions::ARM_F);
    let failed = ist::step(ist::State::Proceeding, ist::Event::TuFailure, true).unwrap();
    assert_eq!(failed.actions, Actions::SEND_RESPONSE | Actions::ARM_H);
}

#[test]
fn s17_1_1_2_a_provisional_stops_retransmissions_and_timer_b() {
    let ringing = ict::step(ict::State::Calling, ict::Event::Provisional, false);
    assert_eq!(ringing, step(ict::State::Proceeding, Actions::PASS_RESPONSE));
    for timer in [ict::Event::TimerA, ict::Event::TimerB] {
        assert_eq!(ict::step(ict::State::Proceeding, timer, false), None);
    }
}

#[test]
fn s17_1_1_2_a_failure_is_acknowledged_every_time_and_passed_up_once() {
    for state in [ict::State::Calling, ict::State::Proceeding] {
        let first = ict::step(state, ict::Event::Failure, false);
        let actions = Actions::SEND_ACK | Actions::PASS_RESPONSE | Actions::ARM_D;
        assert_eq!(first, step(ict::State::Completed, actions));
    }
    let again = ict::step(ict::State::Completed, ict::Event::Failure, false);
    assert_eq!(again, step(ict::State::Completed, Actions::SEND_ACK));
}

#[test]
fn s17_1_1_2_on_reliable_transports_a_failure_ends_the_client_at_once() {
    let done = ict::step(ict::State::Calling, ict::Event::Failure, true);
    let actions = Actions::SEND_ACK | Actions::PASS_RESPONSE | Actions::FORGET;
    assert_eq!(done, step(ict::State::Terminated, actions));
}

#[test]
fn s17_1_4_a_transport_error_is_told_and_ends_the_client() {
    let actions = Actions::INFORM_TRANSPORT | Actions::FORGET;
    for reliable in BOTH {
        for state in [ict::State::Calling, ict::State::Completed] {
            let end = ict::step(state, ict::Event::TransportError, reliable);
            assert_eq!(end, step(ict::State::Terminated, actions));
        }
        for state in [nict::State::Trying, nict::State::Proceeding] {
            let end = nict::step(state, nict::Event::TransportError, reliable);
            assert_eq!(end, step(nict::State::Terminated, actions));
        }
    }
}

#[test]
fn rfc6026_7_2_every_2xx_is_passed_up_until_timer_m_and_none_is_acknowledged() {
    for reliable in BOTH {
        for state in [ict::State::Calling, ict::State::Proceeding] {
            let first = ict::step(state, ict::Event::Success, reliable);
            let actions = Actions::PASS_RESPONSE | Actions::ARM_M;
            assert_eq!(first, step(ict::State::Accepted, actions));
        }
        let more = ict::step(ict::State::Accepted, ict::Event::Success, reliable);
        assert_eq!(more, step(ict::State::Accepted, Actions::PASS_RESPONSE));
        let end = ict::step(ict::State::Accepted, ict::Event::TimerM, reliable);
        assert_eq!(end, step(ict::State::Terminated, Actions::FORGET));
        for state in ict::State::ALL {
            let acked = ict::step(state, ict::Event::Success, reliable);
            assert!(!acked.is_some_and(|s| s.actions.has(Actions::SEND_ACK)), "{state:?}");
        }
    }
}

#[test]
fn s17_1_2_2_final_responses_after_the_first_are_not_passed_up() {
    let first = nict::step(nict::State::Trying, nict::Event::Final, false);
    let actions = Actions::PASS_RESPONSE | Actions::ARM_K;
    assert_eq!(first, step(nict::State::Completed, actions));
    for event in [nict::Event::Final, nict::Event::Provisional] {
        let again = nict::step(nict::State::Completed, event, false);
        assert_eq!(again, step(nict::State::Completed, Actions::NONE));
    }
    let reliable = nict::step(nict::State::Trying, nict::Event::Final, true);
    let actions = Actions::PASS_RESPONSE | Actions::FORGET;
    assert_eq!(reliable, step(nict::State::Terminated, actions));
}

#[test]
fn s17_2_1_a_100_is_due_in_200_ms_and_retransmissions_get_the_last_response() {
    let first = ist::start(false);
    assert_eq!(first.actions, Actions::PASS_REQUEST | Actions::ARM_TRYING);
    assert_eq!(duration_us(Letter::Trying, 0, false, &TimerValues::default()), 200_000);
    let late = ist::step(ist::State::Proceeding, ist::Event::TimerTrying, false);
    assert_eq!(late, step(ist::State::Proceeding, Actions::SEND_TRYING));
    for state in [ist::State::Proceeding, ist::State::Completed] {
        let again = ist::step(state, ist::Event::Request, false);
        assert_eq!(again, step(state, Actions::RESEND_RESPONSE));
    }
}

#[test]
fn s17_2_1_an_ack_stops_the_failure_and_is_never_passed_up() {
    let acked = ist::step(ist::State::Completed, ist::Event::Ack, false);
    assert_eq!(acked, step(ist::State::Confirmed, Actions::ARM_I));
    let again = ist::step(ist::State::Confirmed, ist::Event::Ack, false);
    assert_eq!(again, step(ist::State::Confirmed, Actions::NONE));
    assert_eq!(ist::step(ist::State::Confirmed, ist::Event::TimerG, false), None);
    let reliable = ist::step(ist::State::Completed, ist::Event::Ack, true);
    assert_eq!(reliable, step(ist::State::Terminated, Actions::FORGET));
}

#[test]
fn s17_2_1_a_missing_ack_is_told_to_the_tu() {
    for reliable in BOTH {
        let end = ist::step(ist::State::Completed, ist::Event::TimerH, reliable);
        let actions = Actions::INFORM_TIMEOUT | Actions::FORGET;
        assert_eq!(end, step(ist::State::Terminated, actions));
    }
}

#[test]
fn rfc6026_7_1_accepted_absorbs_invites_passes_acks_up_and_2xx_down() {
    for reliable in BOTH {
        let first = ist::step(ist::State::Proceeding, ist::Event::TuSuccess, reliable);
        let actions = Actions::SEND_RESPONSE | Actions::ARM_L;
        assert_eq!(first, step(ist::State::Accepted, actions));
        for (event, actions) in [
            (ist::Event::Request, Actions::NONE),
            (ist::Event::Ack, Actions::PASS_REQUEST),
            (ist::Event::TuSuccess, Actions::SEND_RESPONSE),
            (ist::Event::TuFailure, Actions::NONE),
        ] {
            let got = ist::step(ist::State::Accepted, event, reliable);
            assert_eq!(got, step(ist::State::Accepted, actions), "{event:?}");
        }
    }
}

#[test]
fn rfc6026_8_8_a_transport_error_does_not_end_a_server_transaction() {
    for reliable in BOTH {
        for state in [ist::State::Proceeding, ist::State::Completed, ist::State::Accepted] {
            let got = ist::step(state, ist::Event::TransportError, reliable);
            assert_eq!(got, step(state, Actions::INFORM_TRANSPORT));
        }
        for state in [nist::State::Proceeding, nist::State::Completed] {
            let got = nist::step(state, nist::Event::TransportError, reliable);
            assert_eq!(got, step(state, Actions::INFORM_TRANSPORT));
        }
    }
}

#[test]
fn s17_2_2_retransmissions_are_dropped_until_a_response_is_there_then_get_it() {
    let dropped = nist::step(nist::State::Trying, nist::Event::Request, false);
    assert_eq!(dropped, step(nist::State::Trying, Actions::NONE));
    for state in [nist::State::Proceeding, nist::State::Completed] {
        let again = nist::step(state, nist::Event::Request, false);
        assert_eq!(again, step(state, Actions::RESEND_RESPONSE));
    }
}

#[test]
fn s17_2_2_a_second_final_response_is_discarded() {
    for event in [nist::Event::TuFinal, nist::Event::TuProvisional] {
        let got = nist::step(nist::State::Completed, event, false);
        assert_eq!(got, step(nist::State::Completed, Actions::NONE));
    }
}

#[test]
fn rfc4320_4_1_a_non_invite_gets_its_100_late_and_once() {
    for reliable in BOTH {
        assert!(nist::start(reliable).actions.has(Actions::ARM_LATE_TRYING));
        let late = nist::step(nist::State::Trying, nist::Event::TimerLateTrying, reliable);
        assert_eq!(late, step(nist::State::Proceeding, Actions::SEND_TRYING));
        for state in [nist::State::Proceeding, nist::State::Completed] {
            assert_eq!(nist::step(state, nist::Event::TimerLateTrying, reliable), None);
        }
    }
}

#[test]
fn rfc4320_4_2_nothing_is_sent_after_the_end() {
    for reliable in BOTH {
        for event in nist::Event::ALL {
            assert_eq!(nist::step(nist::State::Terminated, event, reliable), None);
        }
        for event in ist::Event::ALL {
            assert_eq!(ist::step(ist::State::Terminated, event, reliable), None);
        }
    }
}

#[test]
fn statuses_and_letters_outside_a_machine_are_no_events() {
    assert_eq!(ict::Event::of_status(99), None);
    assert_eq!(ict::Event::of_status(700), None);
    assert_eq!(ict::Event::of_status(199), Some(ict::Event::Provisional));
    assert_eq!(ict::Event::of_status(299), Some(ict::Event::Success));
    assert_eq!(ict::Event::of_status(300), Some(ict::Event::Failure));
    assert_eq!(nict::Event::of_status(200), Some(nict::Event::Final));
    assert_eq!(ist::Event::of_status(699), Some(ist::Event::TuFailure));
    assert_eq!(nist::Event::of_status(100), Some(nist::Event::TuProvisional));
    assert_eq!(ict::Event::of_timer(Letter::C), None);
    assert_eq!(ist::Event::of_timer(Letter::Watch), None);
    assert_eq!(nist::Event::of_timer(Letter::Trying), None);
    assert_eq!(nict::Event::of_timer(Letter::K), Some(nict::Event::TimerK));
}
