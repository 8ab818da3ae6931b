//! What the hunt group decides, seen from outside.

use core::time::Duration;

use viaduct_guest::testing::prelude::*;

const ALICE: &str = "udp:192.0.2.11:5060";
const CAROL: &str = "udp:192.0.2.13:5060";

/// Alice and Carol have phones, Bob has not.
fn group() {
    router::bind("alice@example.com", "sip:alice@192.0.2.11");
    router::bind("carol@example.com", "sip:carol@192.0.2.13");
}

fn call() -> Sip {
    Sip::invite("sales@example.com").caller("sip:customer@example.org")
}

/// The call, as the last one left it: the request to whoever rings next.
fn refused_by(phone: &Outcome, status: u16) -> Outcome {
    phone.forwarded().answer(status).send()
}

#[viaduct::tests]
mod hunt_group {
    use super::*;

    #[test]
    fn one_member_rings_at_a_time_in_order() {
        group();
        let first = call().send();
        first
            .forwarded()
            .expect_to(ALICE)
            .expect_in_header("Record-Route", "192.0.2.1");
        let second = refused_by(&first, 486);
        second.forwarded().expect_to(CAROL);
    }

    #[test]
    fn whoever_answers_has_the_call() {
        group();
        let first = call().send();
        let second = refused_by(&first, 486);
        let answered = second.forwarded().answer(200).send();
        answered.response().expect_status(200);
        answered.expect_nothing_forwarded();
    }

    #[test]
    fn a_phone_that_never_answers_passes_the_call_on() {
        group();
        let first = call().send();
        first.forwarded().answer(180).send().expect_status(180);
        // Timer C (RFC 3261 16.8): the branch is cancelled, and ends with 487.
        let cancelled = router::advance(Duration::from_secs(181));
        cancelled
            .forwarded()
            .expect_to(ALICE)
            .expect_header("CSeq", "1 CANCEL");
        refused_by(&first, 487).forwarded().expect_to(CAROL);
    }

    #[test]
    fn a_caller_who_gives_up_ends_the_hunt() {
        group();
        let invite = call();
        let first = invite.send();
        first.forwarded().answer(180).send().expect_status(180);
        let cancelled = invite.cancel().send();
        cancelled
            .response()
            .expect_status(200)
            .expect_header("CSeq", "1 CANCEL");
        cancelled
            .forwarded()
            .expect_to(ALICE)
            .expect_header("CSeq", "1 CANCEL");
        let over = refused_by(&first, 487);
        over.response().expect_status(487);
        over.expect_nothing_forwarded();
    }

    #[test]
    fn after_the_last_comes_voicemail_once() {
        group();
        router::set("voicemail", "sip:sales@198.51.100.40");
        let first = call().send();
        let second = refused_by(&first, 480);
        let third = refused_by(&second, 486);
        third.forwarded().expect_to("udp:198.51.100.40:5060");
        third
            .forwarded()
            .expect_request("INVITE sip:sales@198.51.100.40");
        let over = refused_by(&third, 404);
        over.expect_nothing_forwarded();
        over.response().expect_status(404);
    }

    #[test]
    fn without_voicemail_the_best_response_goes_back() {
        group();
        let first = call().send();
        let second = refused_by(&first, 486);
        let over = refused_by(&second, 486);
        over.response().expect_status(486);
    }

    #[test]
    fn nobody_with_a_phone_is_480_or_voicemail() {
        call().send().response().expect_status(480);
        router::set("voicemail", "sip:sales@198.51.100.40");
        call()
            .send()
            .forwarded()
            .expect_to("udp:198.51.100.40:5060");
    }

    #[test]
    fn a_decline_for_all_ends_the_hunt() {
        group();
        let first = call().send();
        refused_by(&first, 603).response().expect_status(603);
    }

    #[test]
    fn others_are_called_directly_and_their_failure_is_theirs() {
        group();
        let direct = Sip::invite("carol@example.com").send();
        direct.forwarded().expect_to(CAROL);
        refused_by(&direct, 486).response().expect_status(486);
        Sip::invite("bob@example.com")
            .send()
            .response()
            .expect_status(480);
    }

    #[test]
    fn members_register_here() {
        let register = Sip::register("bob@example.com").contact("sip:bob@192.0.2.12");
        register.from("192.0.2.12:5060").send().expect_status(200);
        assert_eq!(router::contacts("bob@example.com"), ["sip:bob@192.0.2.12"]);
    }

    #[test]
    fn r_g2_foreign_routes_and_domains_are_refused() {
        let routed = call().route("<sip:203.0.113.66;lr>").send();
        routed.response().expect_status(403);
        Sip::invite("sip:x@203.0.113.66")
            .send()
            .response()
            .expect_status(403);
    }
}
