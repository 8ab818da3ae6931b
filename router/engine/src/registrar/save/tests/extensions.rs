//! Outbound (RFC 5626), GRUU (RFC 5627), Service-Route (RFC 3608), save in a reply route.

use super::*;
use crate::registrar::{BindingFields, OutboundMode, SaveCode};

const FLOW_1: &str = "Contact: <sip:a@192.0.2.4>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"";
const FLOW_2: &str = "Contact: <sip:a@192.0.2.4>;reg-id=2;+sip.instance=\"<urn:uuid:1>\"";
const SUPPORTED: &str = "Supported: path, outbound";
/// What the edge writes.
const OB: &str = "Path: <sip:mid.example;lr>, <sip:~1@edge.example;lr;ob>";
const BY_EDGE: &str = "Via: SIP/2.0/UDP phone;branch=z9hG4bK0\r\n";

fn by_edge() -> Desk {
    Desk { via: BY_EDGE, ..Desk::with_flags("p1") }
}

fn flows(desk: &Desk) -> Vec<u32> {
    let set = desk.set.as_ref().unwrap();
    set.bindings.iter().map(|binding| binding.fields().reg_id).collect()
}

#[test]
fn rfc_5626_6_flows_of_a_phone_are_bindings_by_instance_and_reg_id() {
    let mut desk = by_edge();
    let answer = desk.register("c", 1, &[FLOW_1, SUPPORTED, OB]).unwrap();
    assert_eq!(lines_of(&answer.headers, "Require"), ["outbound"]);
    assert_eq!(lines_of(&answer.headers, "Supported"), ["outbound"]);
    desk.register("d", 1, &[FLOW_2, SUPPORTED, OB]).unwrap();
    assert_eq!(flows(&desk), [1, 2], "one URI, two flows");
    let moved = FLOW_1.replace("192.0.2.4", "192.0.2.5");
    let answer = desk.register("e", 1, &[&moved, SUPPORTED, OB]).unwrap();
    assert_eq!(answer.code, SaveCode::Updated, "the URI is not compared");
    assert_eq!(desk.contacts(), ["sip:a@192.0.2.5", "sip:a@192.0.2.4"]);
    let gone = format!("{moved};expires=0");
    desk.register("e", 2, &[&gone, SUPPORTED, OB]).unwrap();
    assert_eq!(flows(&desk), [2]);
}

#[test]
fn r_o2_ob_counts_in_the_value_next_to_the_phone() {
    let mut desk = by_edge();
    let elsewhere = "Path: <sip:mid.example;lr;ob>, <sip:edge.example;lr>";
    assert_eq!(desk.status("c", 1, &[FLOW_1, SUPPORTED, elsewhere]), 439);
    assert_eq!(desk.status("c", 1, &[FLOW_1, SUPPORTED]), 439);
    assert!(desk.set.is_none());
    let single = "Path: <sip:edge.example;lr;ob>";
    assert_eq!(desk.status("c", 1, &[FLOW_1, SUPPORTED, single]), 200);
    assert_eq!(flows(&desk), [1]);
}

#[test]
fn rfc_5626_6_reg_id_means_nothing_without_an_edge_that_knows_flows_or_without_an_instance() {
    let mut desk = by_edge();
    let answer = desk.register("c", 1, &[FLOW_1, "Path: <sip:edge.example;lr>"]).unwrap();
    assert!(lines_of(&answer.headers, "Require").is_empty());
    assert_eq!(flows(&desk), [0]);
    let without_instance = "Contact: <sip:b@192.0.2.4>;reg-id=1";
    desk.register("d", 1, &[without_instance, SUPPORTED, OB]).unwrap();
    assert_eq!(flows(&desk), [0, 0]);
}

#[test]
fn rfc_5626_6_who_does_not_say_outbound_is_not_told_that_his_flow_was_taken() {
    let mut desk = by_edge();
    let answer = desk.register("c", 1, &[FLOW_1, OB]).unwrap();
    assert_eq!(flows(&desk), [1], "the edge can find it all the same");
    assert!(lines_of(&answer.headers, "Require").is_empty());
}

#[test]
fn rfc_5626_6_one_contact_a_flow() {
    let mut desk = by_edge();
    let two = "Contact: <sip:b@192.0.2.4>";
    assert_eq!(desk.status("c", 1, &[FLOW_1, two, SUPPORTED, OB]), 400);
    assert!(desk.set.is_none());
    let removal = "Contact: <sip:b@192.0.2.4>;expires=0";
    assert_eq!(desk.status("c", 1, &[FLOW_1, removal, SUPPORTED, OB]), 200);
    for bad in ["reg-id=0", "reg-id=x", "reg-id=2147483648", "reg-id"] {
        let contact = format!("Contact: <sip:a@h>;{bad};+sip.instance=\"<urn:uuid:1>\"");
        assert_eq!(desk.status("d", 1, &[&contact, SUPPORTED, OB]), 400, "{bad}");
    }
}

#[test]
fn rfc_5626_6_a_flow_that_ends_at_us_is_stored_with_where_it_came_from() {
    let mut desk = Desk::new();
    desk.registrar.flow_timer_s = 120;
    let answer = desk.register("c", 1, &[FLOW_1, SUPPORTED]).unwrap();
    assert_eq!(lines_of(&answer.headers, "Flow-Timer"), ["120"]);
    let stored = |fields: &BindingFields<'_>| fields.received.to_vec();
    assert_eq!(desk.first(stored), "sip:198.51.100.7:40000");
    assert!(desk.set.as_ref().unwrap().bindings[0].fields().nat);
    let mut plain = Desk::new();
    plain.register("c", 1, &["Contact: <sip:a@192.0.2.4>", SUPPORTED]).unwrap();
    assert_eq!(plain.first(stored), "", "without reg-id nothing changes");
}

#[test]
fn outbound_can_be_off_and_can_be_required() {
    let mut desk = by_edge();
    desk.registrar.outbound = OutboundMode::Off;
    let answer = desk.register("c", 1, &[FLOW_1, SUPPORTED, OB]).unwrap();
    assert!(lines_of(&answer.headers, "Supported").is_empty());
    assert_eq!(flows(&desk), [0]);
    desk.registrar.outbound = OutboundMode::Required;
    let refusal = desk.register("c", 2, &[FLOW_1, OB]).unwrap_err();
    assert_eq!(refusal.status, 421);
    assert_eq!(lines_of(&refusal.headers, "Require"), ["outbound"]);
    assert_eq!(desk.status("c", 2, &[FLOW_1, SUPPORTED, OB]), 200);
}

#[test]
fn rfc_5627_5_who_supports_gruu_is_told_both_gruus_of_each_instance() {
    let mut desk = Desk::new();
    let lines = [FLOW_1, "Contact: <sip:b@192.0.2.9>", "Supported: gruu, path"];
    // Two contacts, so no flow.
    desk.registrar.outbound = OutboundMode::Off;
    let answer = desk.register("c", 1, &lines).unwrap();
    let contacts = lines_of(&answer.headers, "Contact");
    let public = ";pub-gruu=\"sip:alice@example.com;gr=urn:uuid:1\";temp-gruu=\"sip:tgruu.01";
    assert!(contacts[0].contains(public), "{contacts:?}");
    assert!(contacts[0].contains("@example.com;gr\""), "{contacts:?}");
    assert!(!contacts[1].contains("gruu"), "no instance, no GRUU: {contacts:?}");
    let temporary = |answer: &SaveAnswer| {
        let contact = lines_of(&answer.headers, "Contact").remove(0);
        contact.split("temp-gruu=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let first = temporary(&answer);
    desk.seed += 1;
    let again = desk.register("c", 2, &lines).unwrap();
    assert_ne!(first, temporary(&again), "each refresh makes a new one");
    let quiet = desk.register("c", 3, &[FLOW_1]).unwrap();
    assert!(!text(&quiet.headers).contains("gruu"), "only who supports it is told");
}

#[test]
fn rfc_5627_5_1_a_contact_that_is_a_gruu_of_the_domain_is_403() {
    let mut desk = Desk::new();
    for uri in ["sip:alice@Example.com;gr=urn:uuid:1", "sip:tgruu.01abc@example.com;gr"] {
        assert_eq!(desk.status("c", 1, &[&format!("Contact: <{uri}>")]), 403, "{uri}");
    }
    let elsewhere = "Contact: <sip:alice@notexample.com;gr=urn:uuid:1>";
    assert_eq!(desk.status("c", 1, &[elsewhere]), 200);
    let repeated = "Contact: <sip:a@192.0.2.4>;pub-gruu=\"sip:x@y;gr=1\";temp-gruu=\"sip:z@y;gr\"";
    let answer = desk.register("d", 1, &[repeated]).unwrap();
    assert!(!text(&answer.headers).contains("gruu"), "what a phone repeats is not stored");
}

#[test]
fn rfc_3608_each_200_tells_the_service_route() {
    let mut desk = Desk::new();
    desk.registrar.service_route = "<sip:p1.example;lr>, <sip:p2.example;lr>".into();
    let answer = desk.register("c", 1, &["Contact: <sip:a@192.0.2.4>"]).unwrap();
    let expected = ["<sip:p1.example;lr>, <sip:p2.example;lr>"];
    assert_eq!(lines_of(&answer.headers, "Service-Route"), expected);
}

#[test]
fn save_in_a_reply_route_takes_what_the_upstream_has_granted() {
    let mut desk = Desk::new();
    desk.registrar.min_expires_s = 600;
    let lines = ["Contact: <sip:a@192.0.2.4>;expires=3600, <sip:b@192.0.2.4>"];
    let two = "Contact: <sip:x@h>;expires=50\r\nContact: <sip:%61@192.0.2.4>;expires=120";
    let answer = desk.granted(&lines, two).unwrap();
    assert_eq!(answer.code, SaveCode::Inserted);
    assert_eq!(desk.contacts(), ["sip:a@192.0.2.4"], "only the first Contact");
    let left_s = |desk: &Desk| {
        let set = desk.set.as_ref().unwrap();
        (set.bindings.first().unwrap().expires_ms() - desk.now_ms) / 1000
    };
    assert_eq!(left_s(&desk), 120, "below our own bound, and it counts");
    desk.granted(&lines, "Contact: <sip:rewritten@edge>\r\nExpires: 90").unwrap();
    assert_eq!(left_s(&desk), 90, "a single Contact is the one, Expires its time");
    let answer = desk.granted(&lines, "Contact: <sip:x@h>, <sip:y@h>").unwrap();
    assert_eq!(answer.code, SaveCode::Deleted, "what upstream does not list is gone");
}
