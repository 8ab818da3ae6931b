//! What the mid-registrar decides, seen from outside.

use viaduct_guest::testing::prelude::*;

const PHONE: &str = "203.0.113.9:41000";
const INSIDE: &str = "192.0.2.30:5060";
const NEXT_HOP: &str = "udp:192.0.2.30:5060";
const PRIVATE: &str = "sip:alice@10.0.0.4:5060";
const AOR: &str = "alice@example.com";

fn inside() {
    router::set("next_hop", "sip:192.0.2.30");
    router::trust("192.0.2.30");
}

fn phone() -> Sip {
    Sip::register(AOR)
        .contact(PRIVATE)
        .expires(3600)
        .via("10.0.0.4:5060")
        .from(PHONE)
}

/// The phone's REGISTER, granted by the registrar behind us.
fn granted(register: &Sip) -> Outcome {
    let forwarded = register.send();
    let forwarded = forwarded.forwarded().expect_to(NEXT_HOP);
    forwarded
        .answer_from_contact(200, PRIVATE)
        .header("Expires", "120")
        .send()
}

#[viaduct::tests]
mod mid_registrar {
    use super::*;
    use core::time::Duration;

    #[test]
    fn what_the_registrar_behind_us_grants_is_bound_here_for_as_long() {
        inside();
        let ok = granted(&phone());
        ok.expect_status(200).expect_to("udp:203.0.113.9:41000");
        ok.only().expect_header("Expires", "120");
        assert_eq!(router::contacts(AOR), [PRIVATE]);
        router::advance(Duration::from_secs(121));
        assert!(router::contacts(AOR).is_empty());
    }

    #[test]
    fn what_it_refuses_is_not_bound() {
        inside();
        let refused = phone().send();
        refused
            .forwarded()
            .answer(403)
            .send()
            .expect_status(403)
            .expect_no_header("P-Registrar-Error");
        assert!(router::contacts(AOR).is_empty());
    }

    #[test]
    fn a_call_from_inside_reaches_the_phone_behind_its_nat() {
        inside();
        granted(&phone()).expect_status(200);
        let call = Sip::invite(AOR).from(INSIDE).send();
        let forwarded = call.forwarded().expect_to("udp:203.0.113.9:41000");
        forwarded.expect_request(&format!("INVITE {PRIVATE}"));
        forwarded.expect_in_header("Record-Route", "~1");
    }

    #[test]
    fn a_call_of_a_phone_goes_inside_and_names_its_flow_only_behind_nat() {
        inside();
        let call = Sip::invite("bob@example.com").contact(PRIVATE).from(PHONE);
        let behind = call.via("10.0.0.4:5060").send();
        behind
            .forwarded()
            .expect_to(NEXT_HOP)
            .expect_in_header("Record-Route", "~1");
        let open = Sip::invite("bob@example.com").contact("sip:alice@203.0.113.9:41000");
        let open = open.via(PHONE).from(PHONE).send();
        let values = open.forwarded().headers("Record-Route").join(", ");
        assert!(!values.contains("~1"), "{values}");
    }

    #[test]
    fn a_phone_that_was_restarted_leaves_nothing_behind_where_told_so() {
        inside();
        router::set("one_call_id", "true");
        granted(&phone()).expect_status(200);
        let restarted = Sip::register(AOR)
            .contact("sip:alice@10.0.0.5:5060")
            .via("10.0.0.5:5060")
            .from(PHONE);
        let forwarded = restarted.send();
        let contact = "sip:alice@10.0.0.5:5060";
        let ok = forwarded.forwarded().answer_from_contact(200, contact);
        ok.header("Expires", "60").send().expect_status(200);
        assert_eq!(router::contacts(AOR), ["sip:alice@10.0.0.5:5060"]);
    }

    #[test]
    fn a_nat_test_that_does_not_exist_is_told_in_the_log() {
        inside();
        router::set("nat_tests", "diff-ip-src-moon");
        Sip::invite("bob@example.com").from(PHONE).send();
        let logs: Vec<_> = router::runs()
            .into_iter()
            .flat_map(|run| run.logs)
            .collect();
        assert!(
            logs.iter().any(|line| line.contains("diff-ip-src-moon")),
            "{logs:?}"
        );
    }
}
