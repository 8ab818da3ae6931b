//! What the outbound proxy decides, seen from outside.

use viaduct_guest::testing::prelude::*;

const PHONE: &str = "203.0.113.9:41000";
const INSIDE: &str = "192.0.2.30:5060";
const NEXT_HOP: &str = "udp:192.0.2.30:5060";
const PRIVATE: &str = "sip:alice@10.0.0.4:5060";

/// The registrar is trusted and is the next hop.
fn edge() {
    router::set("next_hop", "sip:192.0.2.30");
    router::trust("192.0.2.30");
}

fn phone() -> Sip {
    Sip::register("alice@example.com")
        .contact(PRIVATE)
        .via("10.0.0.4:5060")
        .from(PHONE)
}

/// The Path value the phone's REGISTER gets.
fn path_of_phone() -> String {
    let register = phone().supported("path").send();
    register.forwarded().header("Path").unwrap_or_default()
}

#[viaduct::tests]
mod outbound_proxy {
    use super::*;

    mod register {
        use super::*;

        #[test]
        fn it_goes_to_the_next_hop_with_our_path_and_received() {
            edge();
            let forwarded = phone().send();
            let forwarded = forwarded.forwarded().expect_to(NEXT_HOP);
            forwarded.expect_request("REGISTER sip:example.com");
            forwarded.expect_in_header("Path", "<sip:edge@192.0.2.1");
            forwarded.expect_in_header("Path", "received=sip:203.0.113.9:41000");
            forwarded
                .expect_in_header("Path", ";lr")
                .expect_in_header("Contact", PRIVATE);
            forwarded.expect_no_header("Record-Route");
        }

        #[test]
        fn the_answer_goes_back_through_the_nat() {
            edge();
            let register = phone().send();
            let ok = register.forwarded().answer(200).send();
            ok.expect_status(200).expect_to("udp:203.0.113.9:41000");
        }

        #[test]
        fn r_p3_our_value_is_on_top_of_those_that_are_there() {
            edge();
            router::set("received", "false");
            let below = "<sip:edge@192.0.2.20;lr>";
            let register = phone().path(below).send();
            let path = register.forwarded().headers("Path").join(", ");
            assert_eq!(path, format!("<sip:edge@192.0.2.1;lr>, {below}"));
        }

        #[test]
        fn the_user_part_is_a_setting() {
            edge();
            router::set("path_user", "");
            phone()
                .send()
                .forwarded()
                .expect_in_header("Path", "<sip:192.0.2.1");
            router::set("path_user", "berlin");
            phone()
                .send()
                .forwarded()
                .expect_in_header("Path", "<sip:berlin@192.0.2.1");
        }

        #[test]
        fn r_p7_a_path_that_cannot_be_added_is_503_and_nothing_is_forwarded() {
            edge();
            router::set("path_user", "not a user");
            let refused = phone().send();
            let status = refused.expect_status(503).start_line();
            assert_eq!(status, "SIP/2.0 503 Internal Path Error");
        }

        #[test]
        fn r_p4_ua_supported_forwards_without_path_where_the_phone_does_not_know_it() {
            edge();
            router::set("path_mode", "ua-supported");
            phone()
                .send()
                .forwarded()
                .expect_no_header("Path")
                .expect_to(NEXT_HOP);
            let knows = phone().supported("gruu, path").send();
            knows
                .forwarded()
                .expect_in_header("Path", "<sip:edge@192.0.2.1");
        }

        #[test]
        fn r_p4_require_answers_421_to_a_phone_that_does_not_know_path() {
            edge();
            router::set("path_mode", "require");
            phone()
                .send()
                .expect_status(421)
                .expect_header("Require", "path");
            let knows = phone().supported("path").send();
            knows.forwarded().expect_header("Require", "path");
        }

        #[test]
        fn r_o1_a_phone_that_registers_a_flow_gets_a_token_and_ob_instead_of_received() {
            edge();
            let flow = "<sip:alice@10.0.0.4:5060>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"";
            let register = Sip::register("alice@example.com").contact(flow);
            let register = register.supported("path, outbound").from(PHONE).send();
            let forwarded = register.forwarded();
            let path = forwarded.header("Path").unwrap_or_default();
            assert!(path.starts_with("<sip:~100"), "{path}");
            assert!(path.contains(";lr;ob"), "{path}");
            assert!(!path.contains("received"), "{path}");
            let call = Sip::invite(PRIVATE).route(&path).from(INSIDE).send();
            call.forwarded().expect_to("udp:203.0.113.9:41000");
        }

        #[test]
        fn settings_that_make_no_sense_are_500_and_say_so() {
            edge();
            for (name, value) in [("path_mode", "sometimes"), ("next_hop", "not a uri")] {
                router::set(name, value);
                phone().send().expect_status(500);
                let logs: Vec<_> = router::runs()
                    .into_iter()
                    .flat_map(|run| run.logs)
                    .collect();
                assert!(logs.iter().any(|line| line.contains(name)), "{logs:?}");
                router::set(name, "always");
            }
        }
    }

    mod to_the_phone {
        use super::*;

        #[test]
        fn a_call_along_our_path_reaches_the_address_the_phone_registered_from() {
            edge();
            let call = Sip::invite(PRIVATE)
                .route(&path_of_phone())
                .from(INSIDE)
                .send();
            let forwarded = call.forwarded().expect_to("udp:203.0.113.9:41000");
            forwarded
                .expect_request(&format!("INVITE {PRIVATE}"))
                .expect_no_header("Route");
            forwarded.expect_in_header("Record-Route", "192.0.2.1");
        }

        #[test]
        fn r_p10_a_received_that_was_changed_is_refused() {
            edge();
            let forged = path_of_phone().replace("203.0.113.9", "203.0.113.66");
            let call = Sip::invite(PRIVATE).route(&forged).send();
            call.response().expect_status(403);
        }

        #[test]
        fn r_p10_an_unsigned_received_of_a_stranger_leads_nowhere() {
            edge();
            let route = "<sip:edge@192.0.2.1;lr;received=sip:203.0.113.66:5060>";
            let call = Sip::invite("sip:victim@203.0.113.66").route(route).send();
            call.forwarded().expect_to(NEXT_HOP);
        }

        #[test]
        fn a_plain_path_proxy_follows_the_values_that_are_left() {
            edge();
            router::set("received", "false");
            let call = Sip::invite(PRIVATE)
                .from(INSIDE)
                .route("<sip:edge@192.0.2.1;lr>");
            let call = call.route("<sip:edge@192.0.2.20;lr>").send();
            let forwarded = call.forwarded().expect_to("udp:192.0.2.20:5060");
            forwarded.expect_header("Route", "<sip:edge@192.0.2.20;lr>");
        }

        #[test]
        fn r_g2_a_stranger_s_preloaded_route_is_refused() {
            edge();
            let call = Sip::invite("sip:carol@example.org").route("<sip:203.0.113.66;lr>");
            call.from(PHONE).send().response().expect_status(403);
        }
    }

    mod from_the_phone {
        use super::*;

        #[test]
        fn a_call_goes_to_the_next_hop_whatever_it_is_addressed_to() {
            edge();
            for uri in ["sip:bob@example.com", "sip:carol@203.0.113.66"] {
                let call = Sip::invite(uri).from(PHONE).send();
                let forwarded = call.forwarded().expect_to(NEXT_HOP);
                forwarded.expect_request(&format!("INVITE {uri}"));
                forwarded.expect_in_header("Record-Route", "192.0.2.1");
            }
        }

        #[test]
        fn a_phone_that_names_us_as_its_route_gets_there_too() {
            edge();
            let call = Sip::invite("bob@example.com")
                .route("<sip:192.0.2.1;lr>")
                .from(PHONE)
                .send();
            call.forwarded()
                .expect_to(NEXT_HOP)
                .expect_no_header("Route");
        }

        #[test]
        fn options_to_us_are_answered_here() {
            edge();
            let ok = Sip::options("sip:192.0.2.1").from(PHONE).send();
            ok.expect_status(200).expect_in_header("Supported", "path");
        }
    }

    mod dialogs {
        use super::*;

        /// Our Record-Route values, as a Route of the other side has them; topmost first.
        fn record_route(message: &Sent) -> Vec<String> {
            let values = message.headers("Record-Route").join(", ");
            values.split(", ").map(str::to_owned).collect()
        }

        #[test]
        fn r_o1_a_caller_behind_nat_is_found_by_the_flow_in_record_route() {
            edge();
            let call = Sip::invite("bob@example.com")
                .contact(PRIVATE)
                .from(PHONE)
                .send();
            let invite = call.forwarded();
            invite.expect_header("Contact", &format!("<{PRIVATE}>"));
            let [top, bottom] = record_route(invite).try_into().unwrap();
            let bye = Sip::bye(PRIVATE, "caller").route(&top).route(&bottom);
            let bye = bye.from(INSIDE).send();
            let bye = bye.forwarded().expect_to("udp:203.0.113.9:41000");
            bye.expect_request(&format!("BYE {PRIVATE}"))
                .expect_no_header("Route");
            // The caller's own requests go on as their Request-URI says.
            let bye = Sip::bye("sip:bob@192.0.2.30", "callee");
            let bye = bye.route(&bottom).route(&top).from(PHONE).send();
            bye.forwarded().expect_to(NEXT_HOP);
        }

        #[test]
        fn r_o1_a_callee_behind_nat_is_found_by_the_flow_in_record_route() {
            edge();
            let call = Sip::invite(PRIVATE)
                .route(&path_of_phone())
                .from(INSIDE)
                .send();
            let [top, bottom] = record_route(call.forwarded()).try_into().unwrap();
            let bye = Sip::bye(PRIVATE, "callee").route(&bottom).route(&top);
            let bye = bye.from(INSIDE).send();
            bye.forwarded().expect_to("udp:203.0.113.9:41000");
        }

        #[test]
        fn r_o1_a_flow_in_record_route_that_was_changed_is_403() {
            edge();
            let call = Sip::invite("bob@example.com").from(PHONE).send();
            let [top, bottom] = record_route(call.forwarded()).try_into().unwrap();
            let forged = bottom.replacen("~100", "~101", 1).replacen("~1", "~1a", 1);
            let bye = Sip::bye(PRIVATE, "caller").route(&top).route(&forged);
            bye.from(INSIDE).send().expect_status(403);
        }

        #[test]
        fn a_request_of_a_dialog_that_was_not_ours_is_not_relayed() {
            edge();
            Sip::bye("sip:carol@203.0.113.66", "callee")
                .from(PHONE)
                .send()
                .expect_status(404);
            Sip::bye("sip:bob@example.com", "callee")
                .from(PHONE)
                .send()
                .expect_status(481);
        }
    }

    /// With users: the edge asks who sends, before anything goes inside.
    mod auth {
        use super::*;

        fn with_users() {
            edge();
            router::set_password("alice", "secret");
        }

        #[test]
        fn a_phone_is_challenged_before_its_register_goes_inside() {
            with_users();
            let challenged = phone().send();
            challenged.response().expect_status(401);
            challenged.expect_nothing_forwarded();
            let forwarded = phone().next().answer(&challenged, "alice", "secret");
            let forwarded = forwarded.forwarded().expect_to(NEXT_HOP);
            forwarded.expect_in_header("Path", "received=sip:203.0.113.9:41000");
        }

        #[test]
        fn nobody_registers_or_calls_for_another() {
            with_users();
            router::set_password("bob", "other");
            phone()
                .send_as("bob", "other")
                .response()
                .expect_status(403);
            let call = Sip::invite("carol@example.com").caller("alice@example.com");
            let refused = call.from(PHONE).send_as("bob", "other");
            refused.response().expect_status(403);
            refused.expect_nothing_forwarded();
        }

        #[test]
        fn every_request_of_a_phone_needs_a_user_whatever_its_from_says() {
            with_users();
            for caller in ["alice@example.com", "anonymous@anonymous.invalid"] {
                let call = Sip::invite("carol@example.com").caller(caller).from(PHONE);
                call.send().response().expect_status(407);
                let forwarded = call.send_as("alice", "secret");
                let forwarded = forwarded.forwarded().expect_to(NEXT_HOP);
                forwarded.expect_no_header("Proxy-Authorization");
            }
        }

        #[test]
        fn what_comes_from_inside_is_not_challenged() {
            with_users();
            let path = path_of_inside();
            let call = Sip::invite("alice@10.0.0.4:5060")
                .caller("bob@example.com")
                .route(&path)
                .from(INSIDE);
            call.send().forwarded().expect_to("udp:203.0.113.9:41000");
        }

        /// The Path value a phone gets after it has shown who it is.
        fn path_of_inside() -> String {
            let register = phone().supported("path").send_as("alice", "secret");
            register.forwarded().header("Path").unwrap_or_default()
        }
    }
}
