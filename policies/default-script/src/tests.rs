//! How it looks from outside.

use viaduct_guest::testing::prelude::*;

const PHONE: &str = "192.0.2.11:5060";

#[viaduct::tests]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn phones_register_and_call_each_other() {
        Sip::register("bob@example.com")
            .contact("sip:bob@192.0.2.12")
            .send()
            .expect_status(200);
        let call = Sip::invite("bob@example.com").send();
        call.forwarded().expect_to("udp:192.0.2.12:5060");
        call.forwarded().expect_in_header("Record-Route", "lr");
    }

    #[test]
    fn who_says_to_be_our_user_shows_it() {
        router::set_password("alice", "secret");
        router::bind("bob@example.com", "sip:bob@192.0.2.12");
        let call = || Sip::invite("bob@example.com").caller("sip:alice@example.com");
        call().send().expect_status(407);
        let call = call().send_as("alice", "secret");
        call.forwarded().expect_to("udp:192.0.2.12:5060");
    }

    #[test]
    fn strangers_reach_our_users_and_nobody_else() {
        router::bind("bob@example.com", "sip:bob@192.0.2.12");
        let stranger = |to: &str| Sip::invite(to).caller("sip:x@other.org");
        stranger("bob@example.com")
            .send()
            .forwarded()
            .expect_to("udp:192.0.2.12:5060");
        stranger("bob@elsewhere.org").send().expect_status(403);
        router::destination("pstn", "sip:192.0.2.50");
        stranger("+4930123@example.com").send().expect_status(403);
    }

    #[test]
    fn a_gateway_that_fails_is_followed_by_the_next_and_taken_out() {
        router::destination("pstn", "sip:192.0.2.50");
        router::destination("pstn", "sip:192.0.2.51");
        let mut calls = 0;
        while router::destinations_up("pstn").len() == 2 {
            calls += 1;
            assert!(calls < 6, "three failures of one take it out");
            let call = Sip::invite("+4930123@example.com").send();
            let first = call.forwarded().to().to_owned();
            let second = call.forwarded().answer(503).send();
            assert_ne!(second.forwarded().to(), first);
            second.forwarded().answer(200).send().expect_status(200);
        }
        router::destination_with("pstn", "sip:192.0.2.50", 1, 0, false);
        router::destination_with("pstn", "sip:192.0.2.51", 1, 0, false);
        Sip::invite("+4930123@example.com")
            .send()
            .expect_status(503);
    }

    #[test]
    fn a_flood_is_not_answered_until_its_time_has_passed() {
        router::set("hits_per_s", "3");
        router::set("ban_s", "60");
        let ask = || Sip::options("example.com").from(PHONE).send();
        for _ in 0..3 {
            ask().expect_status(200);
        }
        ask().expect_silence();
        router::advance(Duration::from_secs(59));
        ask().expect_silence();
        router::advance(Duration::from_secs(2));
        ask().expect_status(200);
        // Somebody else was never held back.
        Sip::options("example.com")
            .from("192.0.2.99:5060")
            .send()
            .expect_status(200);
    }

    #[test]
    fn who_is_not_there_has_voicemail() {
        Sip::invite("bob@example.com").send().expect_status(404);
        router::set("voicemail", "sip:192.0.2.60");
        Sip::invite("bob@example.com")
            .send()
            .forwarded()
            .expect_to("udp:192.0.2.60:5060");
        router::bind("bob@example.com", "sip:bob@192.0.2.12");
        let call = Sip::invite("bob@example.com").send();
        let next = call.forwarded().answer(486).send();
        next.forwarded()
            .expect_request("INVITE sip:bob@192.0.2.60")
            .expect_to("udp:192.0.2.60:5060");
    }

    fn sdp(ip: &str) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio 4000 RTP/AVP 0\r\n"
        )
    }

    fn call(ip: &str) -> Sip {
        Sip::invite("bob@example.com").body("application/sdp", &sdp(ip))
    }

    #[test]
    fn media_go_through_the_router_where_a_side_is_behind_nat() {
        router::bind("bob@example.com", "sip:bob@192.0.2.12");
        let relayed = |call: &Sent| call.body().contains("c=IN IP4 192.0.2.1\r\n");
        assert!(!relayed(call("10.0.0.3").send().forwarded()), "it is off");
        router::set("media", "nat");
        assert!(!relayed(call("192.0.2.11").send().forwarded()));
        let call = call("10.0.0.3").send();
        assert!(relayed(call.forwarded()));
        let answer = call.forwarded().answer(200);
        let answer = answer.body("application/sdp", &sdp("192.0.2.12")).send();
        assert!(relayed(answer.response()));
    }

    #[test]
    fn a_phone_that_registers_from_behind_nat_has_its_media_relayed() {
        router::set("media", "nat");
        Sip::register("bob@example.com")
            .contact("sip:bob@10.0.0.9")
            .send()
            .expect_status(200);
        let call = call("192.0.2.11").send();
        assert!(call.forwarded().body().contains("c=IN IP4 192.0.2.1\r\n"));
    }

    #[test]
    fn a_phone_behind_nat_is_found_through_its_alias() {
        router::bind("bob@example.com", "sip:bob@192.0.2.12");
        let call = Sip::invite("bob@example.com").send();
        let answer = call
            .forwarded()
            .answer_from_contact(200, "sip:bob@10.0.0.9")
            .send();
        let contact = "<sip:bob@10.0.0.9;alias=192.0.2.12~5060~1>";
        answer.response().expect_header("Contact", contact);
    }
}
