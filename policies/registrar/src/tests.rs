//! What the registrar decides, seen from outside.

use core::time::Duration;

use viaduct_guest::testing::prelude::*;

const PHONE: &str = "192.0.2.4:5062";
const CONTACT: &str = "sip:alice@192.0.2.4:5062";
const EDGE: &str = "192.0.2.20:5060";
const EDGE_PATH: &str = "<sip:edge@192.0.2.20;lr>";

fn phone() -> Sip {
    Sip::register("alice@example.com")
        .contact(CONTACT)
        .expires(3600)
        .from(PHONE)
}

#[viaduct::tests]
mod registrar {
    use super::*;

    mod register {
        use super::*;

        #[test]
        fn a_phone_registers_refreshes_and_leaves() {
            let register = phone();
            let ok = register.send();
            ok.expect_status(200)
                .expect_in_header("Contact", CONTACT)
                .expect_to("udp:192.0.2.4:5062");
            register.clone().next().send().expect_status(200);
            assert_eq!(router::contacts("alice@example.com"), [CONTACT]);

            let leave = Sip::register("alice@example.com")
                .contact(CONTACT)
                .expires(0)
                .from(PHONE);
            leave.send().expect_status(200).expect_no_header("Contact");
            assert!(router::contacts("alice@example.com").is_empty());
        }

        #[test]
        fn a_query_lists_contacts_and_changes_nothing() {
            phone().send().expect_status(200);
            let query = Sip::register("alice@example.com").from(PHONE).send();
            query
                .expect_status(200)
                .expect_in_header("Contact", CONTACT);
            assert_eq!(router::contacts("alice@example.com"), [CONTACT]);
        }

        #[test]
        fn a_binding_ends_when_its_time_is_over() {
            phone().send().expect_status(200);
            router::advance(Duration::from_secs(3_601));
            assert!(router::contacts("alice@example.com").is_empty());
            Sip::invite("alice@example.com")
                .send()
                .response()
                .expect_status(480);
        }

        #[test]
        fn a_retransmission_is_answered_again_and_changes_nothing() {
            let register = phone();
            register.send().expect_status(200);
            router::runs();
            register
                .send()
                .expect_status(200)
                .expect_in_header("Contact", CONTACT);
            let effects = router::runs().into_iter().flat_map(|run| run.effects);
            let changes: Vec<_> = effects
                .filter(|effect| effect.starts_with("bindings"))
                .collect();
            assert_eq!(changes, [""; 0]);
        }

        #[test]
        fn a_foreign_domain_is_refused() {
            Sip::register("alice@elsewhere.example")
                .contact(CONTACT)
                .send()
                .expect_status(403);
        }

        #[test]
        fn an_aor_of_another_domain_than_addressed_is_unknown() {
            router::add_domain("example.org");
            let register = phone().request_uri("sip:example.org");
            register.send().expect_status(404);
            phone()
                .to("alice@elsewhere.example")
                .send()
                .expect_status(404);
            assert!(router::contacts("alice@example.com").is_empty());
        }

        #[test]
        fn the_address_of_the_router_serves_all_our_domains() {
            phone()
                .request_uri("sip:192.0.2.1")
                .send()
                .expect_status(200);
            assert_eq!(router::contacts("alice@example.com"), [CONTACT]);
        }

        #[test]
        fn with_a_list_of_users_nobody_else_registers() {
            router::set("users", "bob, carol");
            phone().send().expect_status(404);
            Sip::register("carol@example.com")
                .contact("sip:carol@192.0.2.5")
                .send()
                .expect_status(200);
        }

        #[test]
        fn a_phone_behind_nat_is_called_where_it_registered_from() {
            let behind = Sip::register("alice@example.com").contact("sip:alice@10.0.0.4:5060");
            behind
                .via("10.0.0.4:5060")
                .from("203.0.113.9:41000")
                .send()
                .expect_status(200);
            let call = Sip::invite("alice@example.com").send();
            let forwarded = call.forwarded().expect_to("udp:203.0.113.9:41000");
            forwarded.expect_request("INVITE sip:alice@10.0.0.4:5060");
        }

        #[test]
        fn a_contact_star_without_expires_0_is_refused() {
            phone().send().expect_status(200);
            let star = Sip::register("alice@example.com").contact("*").from(PHONE);
            star.expires(60).send().expect_status(400);
            assert_eq!(router::contacts("alice@example.com"), [CONTACT]);
        }

        #[test]
        fn bad_flags_in_the_settings_answer_500_and_say_so() {
            router::set("save_flags", "path-lazy, nonsense");
            phone().send().expect_status(500);
            let logs: Vec<String> = router::runs()
                .into_iter()
                .flat_map(|run| run.logs)
                .collect();
            assert!(
                logs.iter().any(|line| line.contains("save_flags")),
                "{logs:?}"
            );
        }
    }

    mod path {
        use super::*;

        fn through_the_edge() -> Sip {
            phone().came_by("192.0.2.4:5062").path(EDGE_PATH).from(EDGE)
        }

        #[test]
        fn r_p16_the_200_repeats_path_where_the_phone_supports_it() {
            let ok = through_the_edge().supported("path").send();
            ok.expect_status(200).expect_header("Path", EDGE_PATH);
        }

        #[test]
        fn r_p11_lazy_stores_path_without_telling_a_phone_that_does_not_know_it() {
            through_the_edge()
                .send()
                .expect_status(200)
                .expect_no_header("Path");
            let call = Sip::invite("alice@example.com").send();
            call.forwarded()
                .expect_header("Route", EDGE_PATH)
                .expect_to("udp:192.0.2.20:5060");
        }

        #[test]
        fn a_call_goes_along_the_stored_path_in_order() {
            let two = format!("<sip:p2@192.0.2.21;lr>, {EDGE_PATH}");
            through_the_edge().path(EDGE_PATH).send().expect_status(200);
            let register = phone()
                .came_by("192.0.2.4:5062")
                .path(&two)
                .supported("path");
            register
                .from("192.0.2.21:5060")
                .send()
                .expect_status(200)
                .expect_header("Path", &two);
            let call = Sip::invite("alice@example.com").send();
            let forwarded = call.forwarded().expect_to("udp:192.0.2.21:5060");
            forwarded
                .expect_header("Route", &two)
                .expect_request(&format!("INVITE {CONTACT}"));
        }

        #[test]
        fn r_p11_strict_refuses_before_storing() {
            for flags in ["path-strict", "p2"] {
                router::set("save_flags", flags);
                let refused = through_the_edge().send();
                refused
                    .expect_status(420)
                    .expect_header("Unsupported", "path")
                    .expect_no_header("Path");
                assert!(router::contacts("alice@example.com").is_empty());
            }
            through_the_edge()
                .supported("path")
                .send()
                .expect_status(200);
        }

        #[test]
        fn r_p13_path_that_is_required_is_taken_for_supported() {
            let required = through_the_edge().header("Require", "path").send();
            required.expect_status(200).expect_header("Path", EDGE_PATH);
        }

        #[test]
        fn r_p14_a_path_without_lr_is_refused() {
            phone()
                .path("<sip:192.0.2.20>")
                .from(EDGE)
                .send()
                .expect_status(400);
            assert!(router::contacts("alice@example.com").is_empty());
        }

        #[test]
        fn a_refresh_without_path_forgets_the_path() {
            let first = through_the_edge();
            first.send().expect_status(200);
            phone().next().send().expect_status(200);
            let call = Sip::invite("alice@example.com").send();
            call.forwarded()
                .expect_no_header("Route")
                .expect_to("udp:192.0.2.4:5062");
        }
    }

    mod calls {
        use super::*;

        #[test]
        fn a_registered_user_is_called_and_we_stay_in_the_dialog() {
            router::bind("alice@example.com", CONTACT);
            let call = Sip::invite("alice@example.com").send();
            assert!(call.trying());
            let forwarded = call
                .forwarded()
                .expect_request(&format!("INVITE {CONTACT}"));
            forwarded
                .expect_to("udp:192.0.2.4:5062")
                .expect_in_header("Record-Route", "192.0.2.1");
            let ringing = forwarded.answer(180).send();
            ringing
                .expect_status(180)
                .expect_to("udp:198.51.100.7:5060");
            forwarded.answer(200).send().expect_status(200);
        }

        #[test]
        fn all_phones_of_a_user_ring() {
            router::bind("alice@example.com", CONTACT);
            router::bind("alice@example.com", "sip:alice@192.0.2.5");
            assert_eq!(Sip::invite("alice@example.com").send().requests().len(), 2);
        }

        #[test]
        fn a_message_makes_no_dialog_and_is_not_record_routed() {
            router::bind("alice@example.com", CONTACT);
            let sent = Sip::message("alice@example.com", "hello").send();
            sent.forwarded().expect_no_header("Record-Route");
        }

        #[test]
        fn nobody_registered_is_480_an_unknown_user_404() {
            Sip::invite("alice@example.com")
                .send()
                .response()
                .expect_status(480);
            router::set("users", "bob");
            Sip::invite("alice@example.com")
                .send()
                .response()
                .expect_status(404);
            Sip::invite("bob@example.com")
                .send()
                .response()
                .expect_status(480);
        }

        #[test]
        fn a_method_no_phone_of_the_user_allows_is_405_and_says_what_is() {
            phone()
                .header("Allow", "INVITE, ACK, BYE, CANCEL")
                .send()
                .expect_status(200);
            let refused = Sip::message("alice@example.com", "hello").send();
            refused
                .expect_status(405)
                .expect_in_header("Allow", "INVITE");
        }

        #[test]
        fn our_users_reach_other_domains_strangers_do_not() {
            let ours = Sip::invite("sip:carol@203.0.113.50").send();
            ours.forwarded().expect_to("udp:203.0.113.50:5060");
            let stranger =
                Sip::invite("sip:carol@203.0.113.50").caller("mallory@elsewhere.example");
            stranger.send().response().expect_status(403);
            router::trust("198.51.100.7");
            stranger
                .next()
                .send()
                .forwarded()
                .expect_to("udp:203.0.113.50:5060");
        }
    }

    mod routes {
        use super::*;

        const OURS: &str = "<sip:192.0.2.1;lr>";
        const FOREIGN: &str = "<sip:203.0.113.66;lr>";

        #[test]
        fn r_g2_a_preloaded_foreign_route_is_refused() {
            router::bind("alice@example.com", CONTACT);
            let invite = Sip::invite("alice@example.com").route(FOREIGN);
            invite.send().response().expect_status(403);
            let hidden = Sip::invite("alice@example.com").route(OURS).route(FOREIGN);
            hidden.send().response().expect_status(403);
        }

        #[test]
        fn r_g2_a_trusted_peer_may_preload_a_route() {
            router::trust("198.51.100.7");
            let invite = Sip::invite("alice@example.com").route(OURS).route(FOREIGN);
            invite.send().forwarded().expect_to("udp:203.0.113.66:5060");
        }

        #[test]
        fn a_route_that_is_only_ours_changes_nothing() {
            router::bind("alice@example.com", CONTACT);
            let call = Sip::invite("alice@example.com").route(OURS).send();
            call.forwarded()
                .expect_to("udp:192.0.2.4:5062")
                .expect_no_header("Route");
        }

        #[test]
        fn a_request_within_a_dialog_follows_its_route() {
            let bye = Sip::bye(CONTACT, "callee").route(OURS).send();
            bye.forwarded()
                .expect_request(&format!("BYE {CONTACT}"))
                .expect_to("udp:192.0.2.4:5062");
        }

        #[test]
        fn a_notify_within_its_subscription_is_record_routed() {
            let notify = Sip::request("NOTIFY", CONTACT)
                .to_tag("subscriber")
                .route(OURS);
            let notify = notify
                .header("Event", "dialog")
                .header("Subscription-State", "active")
                .send();
            notify
                .forwarded()
                .expect_in_header("Record-Route", "192.0.2.1");
        }

        #[test]
        fn a_request_of_a_dialog_that_was_not_ours_is_not_relayed() {
            Sip::bye(CONTACT, "callee").send().expect_status(404);
            Sip::bye("sip:alice@example.com", "callee")
                .send()
                .expect_status(481);
        }
    }

    mod one_phone_of_several {
        use super::*;

        /// Alice's phone with an instance, and the GRUU it is given.
        fn gruu(name: &str) -> String {
            let contact = format!("<{CONTACT}>;+sip.instance=\"<urn:uuid:1>\"");
            let register = Sip::register("alice@example.com")
                .contact(&contact)
                .supported("gruu")
                .from(PHONE);
            let contact = register.send().header("Contact").unwrap_or_default();
            let value = contact.split(&format!("{name}=\"")).nth(1);
            let value = value.and_then(|rest| rest.split('"').next());
            value.unwrap_or_default().to_owned()
        }

        #[test]
        fn rfc_5627_4_a_gruu_leads_to_its_phone_and_in_a_dialog_too() {
            for name in ["pub-gruu", "temp-gruu"] {
                let gruu = gruu(name);
                router::bind("alice@example.com", "sip:alice@192.0.2.99");
                let call = Sip::invite(&gruu).send();
                let invite = call.forwarded().expect_to("udp:192.0.2.4:5062");
                invite.expect_request(&format!("INVITE {CONTACT}"));
                let route = invite.headers("Record-Route").join(", ");
                let bye = Sip::bye(&gruu, "callee").route(&route).send();
                bye.forwarded().expect_to("udp:192.0.2.4:5062");
            }
        }

        #[test]
        fn r_o3_a_gruu_that_is_not_ours_is_404() {
            let made_up = "sip:tgruu.00abcdef@example.com;gr";
            Sip::invite(made_up).send().response().expect_status(404);
        }

        #[test]
        fn rfc_5626_5_3_in_a_dialog_a_caller_behind_nat_is_found_by_its_flow() {
            phone().send().expect_status(200);
            let nat = "203.0.113.9:41000";
            let call = Sip::invite("alice@example.com").contact("sip:bob@10.0.0.7:5060");
            let call = call.via("10.0.0.7:5060").from(nat).send();
            let values = call.forwarded().headers("Record-Route").join(", ");
            let bye = Sip::bye("sip:bob@10.0.0.7:5060", "caller").route(&values);
            let bye = bye.from(PHONE).send();
            bye.forwarded().expect_to("udp:203.0.113.9:41000");
        }
    }

    mod router_itself {
        use super::*;

        #[test]
        fn options_tells_what_we_can() {
            for uri in ["sip:example.com", "sip:192.0.2.1:5060"] {
                let ok = Sip::options(uri).send();
                ok.expect_status(200).expect_in_header("Allow", "REGISTER");
                ok.only()
                    .expect_header("Accept", "application/sdp")
                    .expect_header("Supported", "path");
            }
        }

        #[test]
        fn rfc_3261_8_2_2_3_options_that_require_more_than_we_can_are_420() {
            let options = Sip::options("sip:example.com");
            let asks = |tags: &str| options.clone().header("Require", tags).send();
            asks("path").expect_status(200);
            let refused = asks("path, teleport,more");
            refused
                .response()
                .expect_status(420)
                .expect_header("Unsupported", "teleport, more");
        }

        #[test]
        fn a_call_to_the_router_is_405_with_allow() {
            let refused = Sip::invite("sip:example.com").send();
            refused
                .response()
                .expect_status(405)
                .expect_header("Allow", "OPTIONS, REGISTER");
        }

        #[test]
        fn options_to_a_user_go_to_the_phone() {
            router::bind("alice@example.com", CONTACT);
            Sip::options("alice@example.com")
                .send()
                .forwarded()
                .expect_to("udp:192.0.2.4:5062");
        }
    }

    /// With users: who sends what (sip-behaviour 3.12).
    mod auth {
        use super::*;

        const SECRET: &str = "secret";
        const ELSEWHERE: &str = "sip:carol@203.0.113.8";

        fn with_users() {
            router::set_password("alice", SECRET);
            router::set_password("bob", "other");
        }

        #[test]
        fn a_phone_is_challenged_answers_and_registers() {
            with_users();
            let challenged = phone().send();
            challenged
                .expect_status(401)
                .expect_in_header("WWW-Authenticate", "realm=\"example.com\"")
                .expect_in_header("WWW-Authenticate", "algorithm=SHA-256");
            assert!(router::contacts("alice@example.com").is_empty());
            let again = phone().next();
            again
                .answer(&challenged, "alice", SECRET)
                .expect_status(200);
            assert_eq!(router::contacts("alice@example.com"), [CONTACT]);
            for algorithm in ["SHA-512-256", "MD5"] {
                let challenged = phone().send();
                phone()
                    .next()
                    .answer_with(&challenged, "alice", SECRET, algorithm, 1)
                    .expect_status(200);
            }
        }

        #[test]
        fn an_unknown_user_and_a_wrong_password_are_the_same_401() {
            with_users();
            for (user, password) in [("alice", "wrong"), ("mallory", SECRET)] {
                let refused = phone().send_as(user, password);
                let challenge = refused.expect_status(401).header("WWW-Authenticate");
                assert!(!challenge.unwrap_or_default().contains("stale"));
            }
            assert!(router::contacts("alice@example.com").is_empty());
        }

        #[test]
        fn rfc_3261_10_3_step_4_another_user_may_not_change_the_bindings() {
            with_users();
            phone().send_as("bob", "other").expect_status(403);
            assert!(router::contacts("alice@example.com").is_empty());
        }

        #[test]
        fn a_user_who_takes_time_to_be_found_registers_all_the_same() {
            with_users();
            router::answer_after(Duration::from_secs(2));
            let challenged = phone().send();
            phone()
                .next()
                .answer(&challenged, "alice", SECRET)
                .expect_silence();
            // Nobody else waits.
            Sip::options("sip:example.com").send().expect_status(200);
            router::advance(Duration::from_secs(2)).expect_status(200);
            assert_eq!(router::contacts("alice@example.com"), [CONTACT]);
            // He is in memory now.
            phone().send_as("alice", SECRET).expect_status(200);
        }

        #[test]
        fn where_no_user_can_be_found_the_phone_is_told_when_to_come_again() {
            with_users();
            router::answer_never();
            let challenged = phone().send();
            phone().next().answer(&challenged, "alice", SECRET);
            let refused = router::advance(Duration::from_secs(6));
            let refused = refused.response().expect_status(503);
            assert!(refused.header("Retry-After").is_some());
        }

        #[test]
        fn rfc_3261_22_3_our_users_are_challenged_when_they_call_and_cannot_lie() {
            with_users();
            router::bind("alice@example.com", CONTACT);
            let call = Sip::invite("alice@example.com").caller("bob@example.com");
            call.send().response().expect_status(407);
            call.send_as("bob", "wrong").response().expect_status(407);
            let forwarded = call.send_as("bob", "other");
            forwarded
                .forwarded()
                .expect_no_header("Proxy-Authorization");
            // Alice calls as if she were bob.
            let lie = call.clone().next();
            lie.send_as("alice", SECRET).response().expect_status(403);
        }

        #[test]
        fn calls_to_elsewhere_need_a_user_of_ours() {
            with_users();
            let call = Sip::invite(ELSEWHERE).caller("bob@example.com");
            call.send().response().expect_status(407);
            let forwarded = call.send_as("bob", "other");
            forwarded.forwarded().expect_to("udp:203.0.113.8:5060");
            let stranger = Sip::invite(ELSEWHERE).caller("eve@elsewhere.example");
            stranger.send().response().expect_status(403);
        }

        #[test]
        fn strangers_still_reach_our_users() {
            with_users();
            router::bind("alice@example.com", CONTACT);
            let call = Sip::invite("alice@example.com").caller("eve@elsewhere.example");
            call.send().forwarded().expect_to("udp:192.0.2.4:5062");
        }

        #[test]
        fn es2021_08_messages_and_subscriptions_are_authenticated_too() {
            with_users();
            router::bind("alice@example.com", CONTACT);
            let message = Sip::message("alice@example.com", "hello").caller("bob@example.com");
            message.send().expect_status(407);
            message.send_as("bob", "other").forwarded();
            let subscribe = Sip::subscribe("alice@example.com", "dialog").caller("bob@example.com");
            subscribe.send().expect_status(407);
        }

        #[test]
        fn rfc_3261_22_1_ack_and_cancel_are_never_challenged() {
            with_users();
            router::bind("alice@example.com", CONTACT);
            let call = Sip::invite("alice@example.com").caller("bob@example.com");
            call.send_as("bob", "other").forwarded();
            Sip::request("ACK", "sip:alice@192.0.2.4:5062")
                .caller("bob@example.com")
                .to_tag("callee")
                .route("<sip:192.0.2.1;lr>")
                .send()
                .all()
                .iter()
                .for_each(|sent| assert!(sent.is_request(), "{}", sent.text()));
            let cancelled = call.cancel().send();
            assert!(
                cancelled
                    .all()
                    .iter()
                    .all(|sent| { sent.is_request() || sent.status() != 407 })
            );
        }

        #[test]
        fn what_trusted_peers_are_asked_for_is_a_setting() {
            with_users();
            router::trust("192.0.2.20");
            router::bind("alice@example.com", CONTACT);
            let register = || phone().from(EDGE).send().status();
            let call = Sip::invite("alice@example.com").caller("bob@example.com");
            let call = || call.clone().next().from(EDGE).send();
            assert_eq!(register(), 401);
            call().response().expect_status(407);
            router::set("trusted_auth", "register");
            assert_eq!(register(), 401);
            call().forwarded();
            router::set("trusted_auth", "none");
            assert_eq!(register(), 200);
            call().forwarded();
            router::set("trusted_auth", "typing error");
            assert_eq!(register(), 401);
            call().response().expect_status(407);
        }
    }
}
