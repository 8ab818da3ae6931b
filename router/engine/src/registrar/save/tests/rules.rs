//! Order, atomicity, limits, matching, what is stored and what is answered.

use viaduct_message::Method;

use super::*;
use crate::registrar::SaveCode;
use crate::registrar::save::method_bit;

#[test]
fn r_s4_save_says_inserted_updated_deleted() {
    let mut desk = Desk::new();
    let answer = desk.register("c", 1, &["Contact: <sip:alice@192.0.2.4>;expires=60"]).unwrap();
    assert_eq!(answer.code, SaveCode::Inserted);
    assert_eq!(lines_of(&answer.headers, "Contact"), ["<sip:alice@192.0.2.4>;expires=60"]);
    assert_eq!(lines_of(&answer.headers, "Date").len(), 1);
    desk.now_ms += 30_000;
    let answer = desk.register("c", 2, &["Contact: <sip:alice@192.0.2.4>;expires=90"]).unwrap();
    assert_eq!(answer.code, SaveCode::Updated);
    assert_eq!(lines_of(&answer.headers, "Contact"), ["<sip:alice@192.0.2.4>;expires=90"]);
    let answer = desk.register("c", 3, &["Contact: <sip:alice@192.0.2.4>;expires=0"]).unwrap();
    assert_eq!(answer.code, SaveCode::Deleted);
    assert!(lines_of(&answer.headers, "Contact").is_empty());
    assert!(answer.set.unwrap().is_empty());
}

#[test]
fn r_s4_a_register_without_contact_lists_and_changes_nothing() {
    let mut desk = Desk::new();
    desk.register("c", 1, &["Contact: <sip:1@h>;q=0.25;x=\"a;b\";expires=60"]).unwrap();
    desk.now_ms += 10_500;
    let answer = desk.register("other", 1, &["Expires: 0"]).unwrap();
    assert_eq!((answer.code, answer.set.is_none()), (SaveCode::Listed, true));
    let listed = lines_of(&answer.headers, "Contact");
    assert_eq!(listed, ["<sip:1@h>;x=\"a;b\";q=0.250;expires=50"]);
}

#[test]
fn expired_bindings_are_neither_listed_nor_kept() {
    let mut desk = Desk::new();
    desk.register("c", 5, &["Contact: <sip:1@h>;expires=60"]).unwrap();
    desk.now_ms += 60_000;
    let answer = desk.register("c", 1, &[]).unwrap();
    assert!(lines_of(&answer.headers, "Contact").is_empty());
    let answer = desk.register("c", 2, &["Contact: <sip:1@h>"]).unwrap();
    assert_eq!(answer.code, SaveCode::Inserted);
    assert_eq!(answer.set.unwrap().len(), 1);
}

#[test]
fn r_u1_contacts_match_by_uri_comparison() {
    let mut desk = Desk::new();
    desk.register("c", 1, &["Contact: <sip:%61lice@Phone.Example;x=y>"]).unwrap();
    let answer = desk.register("c", 2, &["Contact: <sip:alice@phone.example>"]).unwrap();
    assert_eq!(answer.code, SaveCode::Updated);
    assert_eq!(desk.contacts(), ["sip:alice@phone.example"]);
    let answer = desk.register("c", 3, &["Contact: <sip:Alice@phone.example>"]).unwrap();
    assert_eq!(answer.code, SaveCode::Inserted);
}

#[test]
fn r_s5_a_lower_cseq_of_the_same_call_is_refused() {
    let mut desk = Desk::new();
    desk.register("c", 5, &["Contact: <sip:1@h>"]).unwrap();
    assert_eq!(desk.status("c", 4, &["Contact: <sip:1@h>"]), 400);
    assert_eq!(desk.status("c", 4, &["Contact: <sip:1@h>;expires=0"]), 400);
    assert_eq!(desk.contacts(), ["sip:1@h"]);
    assert_eq!(desk.status("new", 1, &["Contact: <sip:1@h>"]), 200);
    assert_eq!(desk.status("c", 4, &["Contact: <sip:1@h>;expires=0"]), 200, "another Call-ID");
    assert!(desk.contacts().is_empty());
}

#[test]
fn r_s6_an_equal_cseq_is_a_retransmission_then_an_update_or_an_error() {
    let mut desk = Desk::new();
    let lines = ["Contact: <sip:1@h>;expires=600"];
    desk.register("c", 5, &lines).unwrap();
    desk.now_ms += 20_000;
    let answer = desk.register("c", 5, &lines).unwrap();
    assert_eq!((answer.code, answer.set.is_none()), (SaveCode::Updated, true));
    assert_eq!(lines_of(&answer.headers, "Contact"), ["<sip:1@h>;expires=580"]);
    desk.now_ms += 1;
    desk.registrar.allow_dup_cseq = false;
    assert_eq!(desk.status("c", 5, &lines), 400);
    desk.registrar.allow_dup_cseq = true;
    let answer = desk.register("c", 5, &lines).unwrap();
    assert_eq!((answer.code, answer.set.is_some()), (SaveCode::Updated, true));
    assert_eq!(lines_of(&answer.headers, "Contact"), ["<sip:1@h>;expires=600"]);
}

#[test]
fn r_g1_a_fault_in_one_contact_undoes_all() {
    let mut desk = Desk::new();
    desk.register("c", 5, &["Contact: <sip:1@h>", "Contact: <sip:2@h>"]).unwrap();
    let before = desk.set.clone();
    let faulty: [&[&str]; 6] = [
        &["Contact: <sip:3@h>, <sip:1@h>;expires=0, <sip:2@h>;q=2"],
        &["Contact: <sip:3@h>", "Contact: <sip:4@h"],
        &["Contact: <sip:3@h>, *"],
        &["Contact: <sip:3@h>", "Contact: sip:4 @h"],
        &["Contact: <sip:3@h>;q=0.1234"],
        &["Contact: <sip:3@h>;q"],
    ];
    for lines in faulty {
        assert_eq!(desk.status("new", 1, lines), 400, "{lines:?}");
        assert_eq!(desk.set, before);
    }
    // The second contact's CSeq is not higher: the first is not added either.
    assert_eq!(desk.status("c", 4, &["Contact: <sip:3@h>, <sip:2@h>"]), 400);
    assert_eq!(desk.set, before);
}

#[test]
fn a_star_removes_all_under_its_conditions() {
    let mut desk = Desk::new();
    desk.register("c", 5, &["Contact: <sip:1@h>"]).unwrap();
    desk.register("d", 9, &["Contact: <sip:2@h>"]).unwrap();
    for lines in [&["Contact: *"][..], &["Contact: *", "Expires: 1"], &["Contact: *", "Expires: x"]]
    {
        assert_eq!(desk.status("e", 1, lines), 400, "{lines:?}");
    }
    let star = ["Contact: *", "Expires: 0"];
    assert_eq!(desk.status("c", 5, &star), 400, "CSeq not higher");
    assert_eq!(desk.status("d", 9, &star), 400);
    assert_eq!(desk.status("e", 1, &["Contact: *, <sip:1@h>", "Expires: 0"]), 400);
    assert_eq!(desk.contacts().len(), 2);
    let answer = desk.register("c", 6, &star).unwrap();
    assert_eq!(answer.code, SaveCode::Deleted);
    assert!(desk.contacts().is_empty());
    let answer = desk.register("c", 6, &star).unwrap();
    assert_eq!((answer.code, answer.set.is_none()), (SaveCode::Deleted, true), "retransmitted");
}

#[test]
fn too_many_contacts_are_refused_whole_and_refreshes_never() {
    let mut desk = Desk::with_flags("c2");
    desk.registrar.retry_after_s = 30;
    desk.register("c", 1, &["Contact: <sip:1@h>, <sip:2@h>"]).unwrap();
    let refusal = desk.register("d", 1, &["Contact: <sip:3@h>"]).unwrap_err();
    assert_eq!((refusal.status, text(&refusal.headers)), (503, "Retry-After: 30\r\n".into()));
    assert_eq!(desk.status("d", 1, &["Contact: <sip:3@h>, <sip:1@h>;expires=0"]), 200);
    assert_eq!(desk.contacts(), ["sip:2@h", "sip:3@h"]);
    desk.flags = SaveFlags::parse("c1").unwrap();
    assert_eq!(desk.status("e", 1, &["Contact: <sip:2@h>"]), 200, "a refresh over the limit");
}

#[test]
fn the_hard_cap_holds_whatever_the_flags_say() {
    let mut desk = Desk::with_flags("c0");
    let many = |n: usize| {
        let values: Vec<_> = (0..n).map(|i| format!("<sip:{i}@h>")).collect();
        format!("Contact: {}", values.join(", "))
    };
    assert_eq!(desk.status("c", 1, &[&many(64)]), 200);
    assert_eq!(desk.status("d", 1, &["Contact: <sip:new@h>"]), 503);
    assert_eq!(Desk::with_flags("c0").status("c", 1, &[&many(65)]), 503);
    assert_eq!(Desk::with_flags("c0").status("c", 1, &[&many(129)]), 400);
}

#[test]
fn r_s7_force_evicts_the_one_longest_not_refreshed() {
    let mut desk = Desk::with_flags("c2f");
    desk.register("a", 1, &["Contact: <sip:1@h>"]).unwrap();
    desk.now_ms += 1000;
    desk.register("b", 1, &["Contact: <sip:2@h>"]).unwrap();
    desk.now_ms += 1000;
    desk.register("a", 2, &["Contact: <sip:1@h>"]).unwrap();
    desk.now_ms += 1000;
    desk.register("c", 1, &["Contact: <sip:3@h>"]).unwrap();
    assert_eq!(desk.contacts(), ["sip:1@h", "sip:3@h"]);
    let three = "Contact: <sip:4@h>, <sip:5@h>, <sip:6@h>";
    assert_eq!(desk.status("d", 1, &[three]), 503, "never one of this request");
}

#[test]
fn matching_by_call_id_keeps_two_phones_with_one_uri_apart() {
    let mut desk = Desk::with_flags("M1");
    desk.register("a", 1, &["Contact: <sip:1@h>"]).unwrap();
    desk.register("b", 1, &["Contact: <sip:1@h>"]).unwrap();
    assert_eq!(desk.contacts(), ["sip:1@h", "sip:1@h"]);
    desk.register("b", 2, &["Contact: <sip:1@h>;expires=0"]).unwrap();
    assert_eq!(desk.first(|f| f.call_id.to_vec()), "a");
}

#[test]
fn matching_by_parameter_replaces_the_uri() {
    let mut desk = Desk::with_flags("M<rinstance>");
    desk.register("a", 1, &["Contact: <sip:1@192.0.2.4;rinstance=x7>"]).unwrap();
    let answer = desk.register("b", 1, &["Contact: <sip:1@192.0.2.5;rinstance=x7>"]).unwrap();
    assert_eq!(answer.code, SaveCode::Updated);
    assert_eq!(desk.contacts(), ["sip:1@192.0.2.5;rinstance=x7"]);
    desk.register("c", 1, &["Contact: <sip:1@192.0.2.5;rinstance=x8>"]).unwrap();
    assert_eq!(desk.contacts().len(), 2);
    let answer = desk.register("d", 1, &["Contact: <sip:9@h>"]).unwrap();
    assert_eq!(answer.code, SaveCode::Inserted, "without the parameter: by URI");
}

#[test]
fn one_contact_named_twice_is_one_binding() {
    let mut desk = Desk::new();
    desk.register("c", 1, &["Contact: <sip:1@h>;expires=60, <sip:1@H>;expires=90"]).unwrap();
    assert_eq!(desk.contacts(), ["sip:1@H"]);
}

#[test]
fn only_request_contacts_lists_no_others() {
    let mut desk = Desk::with_flags("o");
    desk.register("a", 1, &["Contact: <sip:1@h>"]).unwrap();
    let answer = desk.register("b", 1, &["Contact: <sip:2@h>;expires=60"]).unwrap();
    assert_eq!(lines_of(&answer.headers, "Contact"), ["<sip:2@h>;expires=60"]);
    assert_eq!(desk.contacts().len(), 2);
}

#[test]
fn what_the_ua_says_of_itself_is_stored() {
    let mut desk = Desk::new();
    let long = "u".repeat(300);
    let contact = "Contact: \"A\" <sip:1@h>;+sip.instance=\"<urn:uuid:1>\";reg-id=1;q=0.5";
    let answer = desk
        .register("c", 1, &[contact, &format!("User-Agent: {long}"), "Allow: INVITE, BYE"])
        .unwrap();
    assert_eq!(desk.first(|f| f.instance.to_vec()), "<urn:uuid:1>");
    assert_eq!(desk.first(|f| f.user_agent.to_vec()), &long[..255]);
    let set = desk.set.as_ref().unwrap();
    let fields = set.bindings[0].fields();
    assert_eq!((fields.q_milli, fields.reg_id, fields.cseq), (Some(500), 1, 1));
    let bit = |method: viaduct_message::Method| 1u32 << (method as u32);
    let invite_bye = bit(viaduct_message::Method::Invite) | bit(viaduct_message::Method::Bye);
    assert_eq!(fields.methods, Some(invite_bye));
    let expected = "<sip:1@h>;+sip.instance=\"<urn:uuid:1>\";reg-id=1;q=0.500;expires=3600";
    assert_eq!(lines_of(&answer.headers, "Contact"), [expected]);
}

#[test]
fn a_folded_contact_is_given_back_on_one_line() {
    let mut desk = Desk::new();
    let answer =
        desk.register("c", 1, &["Contact: <sip:1@h>;\r\n x=\"a\r\n b\";\r\n\texpires=60"]).unwrap();
    let expected = "<sip:1@h>;x=\"a   b\";expires=60";
    assert_eq!(lines_of(&answer.headers, "Contact"), [expected]);
}

#[test]
fn long_values_are_refused() {
    let contact = format!("Contact: <sip:{}@h>", "1".repeat(512));
    assert_eq!(Desk::new().status("c", 1, &[&contact]), 400);
    let params = format!("Contact: <sip:1@h>;x={}", "1".repeat(1100));
    assert_eq!(Desk::new().status("c", 1, &[&params]), 400);
    assert_eq!(Desk::new().status(&"c".repeat(256), 1, &["Contact: <sip:1@h>"]), 400);
}

#[test]
fn the_source_is_stored_where_it_is_needed() {
    let contact = ["Contact: <sip:1@10.0.0.4>"];
    let mut desk = Desk::new();
    desk.register("c", 1, &contact).unwrap();
    assert_eq!(desk.first(|f| f.received.to_vec()), "", "a datagram, and nobody asked");
    desk.fix_nat = true;
    desk.register("c", 2, &contact).unwrap();
    assert_eq!(desk.first(|f| f.received.to_vec()), "sip:198.51.100.7:40000");
    assert!(desk.set.as_ref().unwrap().bindings[0].fields().nat);
    desk.fix_nat = false;
    desk.flow.transport = Transport::Tcp;
    desk.flow.conn = ConnId::new(1, 7);
    desk.register("c", 3, &contact).unwrap();
    assert_eq!(desk.first(|f| f.received.to_vec()), "sip:198.51.100.7:40000;transport=tcp");
    let fields = desk.set.as_ref().unwrap().bindings[0].fields();
    assert_eq!((fields.nat, fields.conn), (false, ConnId::new(1, 7)));
}

#[test]
fn r_s2_the_socket_header_counts_from_trusted_peers_and_for_our_sockets() {
    let local = |trusted: bool, value: &str| {
        let mut desk = Desk::with_flags("s");
        desk.trusted = trusted;
        let header = format!("Sock-Info: {value}");
        desk.register("c", 1, &["Contact: <sip:1@h>", &header]).unwrap();
        let fields = desk.set.as_ref().unwrap().bindings[0].fields();
        format!("{}:{}", fields.transport.param_name(), fields.local)
    };
    assert_eq!(local(true, "tcp:192.0.2.9:5070"), "tcp:192.0.2.9:5070");
    for (trusted, value) in [
        (false, "tcp:192.0.2.9:5070"),
        (true, "udp:192.0.2.9:5070"),
        (true, "tcp:192.0.2.99:5070"),
        (true, "tcp:192.0.2.9"),
        (true, "nonsense"),
    ] {
        assert_eq!(local(trusted, value), "udp:192.0.2.1:5060", "{value}");
    }
}

#[test]
fn r_u1_contacts_match_as_texts_where_configured() {
    let mut desk = Desk::new();
    desk.registrar.match_texts = true;
    desk.register("c", 1, &["Contact: <sip:%61lice@phone.example>"]).unwrap();
    let answer = desk.register("c", 2, &["Contact: <sip:alice@phone.example>"]).unwrap();
    assert_eq!(answer.code, SaveCode::Inserted);
}

#[test]
fn attributes_are_stored_with_each_contact_of_the_register_and_shown_to_nobody() {
    let mut desk = Desk::new();
    desk.attributes = b"site=7;tier=gold";
    let answer = desk.register("c", 1, &["Contact: <sip:1@h>, <sip:2@h>"]).unwrap();
    assert!(!text(&answer.headers).contains("site=7"), "they are the policy's own");
    desk.attributes = b"site=8";
    desk.register("d", 1, &["Contact: <sip:2@h>"]).unwrap();
    let all = |desk: &Desk| -> Vec<String> {
        let bindings = desk.set.as_ref().unwrap().bindings.iter();
        bindings.map(|binding| text(binding.fields().attributes)).collect()
    };
    assert_eq!(all(&desk), ["site=7;tier=gold", "site=8"]);
    // The last REGISTER counts, as with Path.
    desk.attributes = b"";
    desk.register("d", 2, &["Contact: <sip:2@h>"]).unwrap();
    assert_eq!(all(&desk), ["site=7;tier=gold", ""]);
}

#[test]
fn a_default_q_and_the_source_are_shown_where_configured() {
    let mut desk = Desk::new();
    (desk.registrar.default_q_milli, desk.registrar.show_received) = (Some(250), true);
    desk.fix_nat = true;
    let answer = desk.register("c", 1, &["Contact: <sip:1@h>;expires=60"]).unwrap();
    let expected = "<sip:1@h>;received=\"sip:198.51.100.7:40000\";q=0.250;expires=60";
    assert_eq!(lines_of(&answer.headers, "Contact"), [expected]);
}

#[test]
fn allow_means_the_same_however_it_is_written() {
    let methods = |allow: &[&str]| {
        let mut desk = Desk::new();
        let lines: Vec<&str> = [&["Contact: <sip:1@h>"], allow].concat();
        desk.register("c", 1, &lines).unwrap();
        desk.set.as_ref().unwrap().bindings[0].fields().methods
    };
    let both = methods(&["Allow: INVITE, BYE"]);
    assert_eq!(both, Some(method_bit(Method::Invite) | method_bit(Method::Bye)));
    for spelling in [
        &["Allow: INVITE,BYE"][..],
        &["Allow: INVITE ,\t BYE"],
        &["Allow: INVITE, X-NEW, , BYE"],
        &["Allow: INVITE,\r\n BYE"],
        &["Allow: INVITE", "Allow: BYE"],
    ] {
        assert_eq!(methods(spelling), both, "{spelling:?}");
    }
    assert_eq!(methods(&["Allow: X-NEW"]), Some(0));
    assert_eq!(methods(&["Allow:"]), Some(0));
    assert_eq!(methods(&[]), None);
}
