//! What the look-up decides, seen from outside.

use core::time::Duration;

use viaduct_guest::testing::prelude::*;

const URL: &str = "http://127.0.0.1:8081/route?number=4711&caller=alice";

fn call() -> Sip {
    Sip::invite("4711@example.com").caller("sip:alice@example.org")
}

#[viaduct::tests]
mod number_lookup {
    use super::*;

    #[test]
    fn a_call_goes_where_the_service_says() {
        router::http_get(URL, "sip:4711@192.0.2.50\nsip:4711@192.0.2.51\n");
        let call = call().send();
        call.forwarded()
            .expect_to("udp:192.0.2.50:5060")
            .expect_in_header("Record-Route", "192.0.2.1");
        let next = call.forwarded().answer(503).send();
        next.forwarded().expect_to("udp:192.0.2.51:5060");
        let asked = router::http_requests();
        assert_eq!(asked.len(), 1, "the failure route asks nobody");
        assert_eq!(
            (asked[0].method.as_str(), asked[0].url.as_str()),
            ("GET", URL)
        );
        assert!(asked[0].headers.is_empty() && asked[0].body.is_empty());
    }

    #[test]
    fn while_the_service_is_slow_the_caller_is_kept_quiet() {
        router::http_get(URL, "sip:4711@192.0.2.50");
        router::answer_after(Duration::from_millis(800));
        let call = call().send();
        assert!(call.trying());
        call.expect_silence();
        router::advance(Duration::from_millis(799)).expect_silence();
        let sent = router::advance(Duration::from_millis(1));
        sent.forwarded().expect_to("udp:192.0.2.50:5060");
    }

    #[test]
    fn a_service_that_knows_nothing_is_404() {
        router::http(
            "GET",
            URL,
            404,
            &["content-type: text/plain"],
            "no such number",
        );
        call().send().response().expect_status(404);
        router::http_get(URL, "\n");
        call().send().response().expect_status(404);
    }

    #[test]
    fn a_service_that_fails_is_503_and_try_again() {
        for error in ["timeout", "unreachable", "too-large", "busy"] {
            router::http_fails("GET", URL, error);
            let answer = call().send();
            answer.response().expect_status(503);
            assert_eq!(
                answer.response().header("Retry-After").as_deref(),
                Some("5"),
                "{error}"
            );
        }
        router::http("GET", URL, 500, &[], "");
        call().send().response().expect_status(503);
        router::http_get(URL, "not a URI");
        call().send().response().expect_status(503);
    }

    #[test]
    fn a_service_that_never_answers_ends_by_the_fallback() {
        router::answer_never();
        call().send().expect_silence();
        let sent = router::advance(Duration::from_millis(5_100));
        sent.response().expect_status(503);
    }

    #[test]
    fn a_number_cannot_change_what_is_asked() {
        let odd = Sip::invite("47/../11?a=b&c@example.com").caller("sip:alice@example.org");
        odd.send().response().expect_status(503);
        let url = "http://127.0.0.1:8081/route?number=47%2F..%2F11%3Fa%3Db%26c&caller=alice";
        assert_eq!(router::http_requests()[0].url, url);
    }

    #[test]
    fn a_key_is_sent_where_one_is_set() {
        router::set("key_header", "X-Api-Key");
        router::set("key", "secret");
        router::http_get(URL, "sip:4711@192.0.2.50");
        call().send().forwarded();
        assert_eq!(router::http_requests()[0].headers, ["X-Api-Key: secret"]);
    }

    #[test]
    fn a_service_that_is_not_granted_is_never_asked() {
        router::set("service", "http://127.0.0.1:8082");
        call().send().response().expect_status(503);
        assert!(router::http_requests().is_empty());
    }

    #[test]
    fn it_is_no_open_relay() {
        let call = Sip::invite("4711@elsewhere.example").caller("sip:alice@example.org");
        call.send().response().expect_status(403);
        assert!(router::http_requests().is_empty());
    }
}
