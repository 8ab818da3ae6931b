//! Path at the registrar (RFC 3327 5.3, sip-behaviour 1.7, 1.9).

use super::*;
use crate::registrar::{PathMode, SaveCode};

const CONTACT: &str = "Contact: <sip:ua1@192.0.2.4>";
const PATH: &str = "Path: <sip:p2.example;lr>, <sip:p1.example;lr>";
const SUPPORTED: &str = "Supported: path";

fn stored(desk: &Desk) -> String {
    desk.first(|fields| fields.path.to_vec())
}

#[test]
fn r_p11_strict_refuses_before_storing() {
    let mut desk = Desk::with_flags("p2");
    for lines in [&[CONTACT, PATH][..], &[PATH], &["Contact: *", "Expires: 0", PATH]] {
        let refusal = desk.register("c", 1, lines).unwrap_err();
        assert_eq!((refusal.status, refusal.reason), (420, "Bad Extension"));
        assert_eq!(text(&refusal.headers), "Unsupported: path\r\n", "no Path in a 420");
    }
    desk.registrar.path_in_420 = true;
    let refusal = desk.register("c", 1, &[CONTACT, PATH]).unwrap_err();
    assert_eq!(text(&refusal.headers), format!("Unsupported: path\r\n{PATH}\r\n"), "as others do");
    assert!(desk.set.is_none());
    let listed = desk.register("c", 2, &[]).unwrap();
    assert!(lines_of(&listed.headers, "Contact").is_empty());
    assert_eq!(desk.status("c", 3, &[CONTACT]), 200, "without Path no mode matters");
}

#[test]
fn r_p11_strict_accepts_who_supports_path() {
    for supported in
        [&[SUPPORTED][..], &["Supported: gruu", "Supported: outbound, PATH"], &["k: path"]]
    {
        let mut desk = Desk::with_flags("path-strict,max-contacts=0");
        let answer = desk.register("c", 1, &[&[CONTACT, PATH], supported].concat()).unwrap();
        assert_eq!(stored(&desk), "<sip:p2.example;lr>, <sip:p1.example;lr>");
        assert_eq!(lines_of(&answer.headers, "Path"), [stored(&desk)]);
    }
}

#[test]
fn lazy_stores_and_answers_with_path_where_supported() {
    let mut desk = Desk::with_flags("p1");
    let answer = desk.register("c", 1, &[CONTACT, PATH]).unwrap();
    assert!(lines_of(&answer.headers, "Path").is_empty());
    assert_eq!(stored(&desk), "<sip:p2.example;lr>, <sip:p1.example;lr>");
    let answer = desk.register("c", 2, &[CONTACT, PATH, SUPPORTED]).unwrap();
    assert_eq!(lines_of(&answer.headers, "Path").len(), 1);
}

#[test]
fn off_stores_and_never_answers_with_path() {
    let mut desk = Desk::with_flags("p0");
    let answer = desk.register("c", 1, &[CONTACT, PATH, SUPPORTED]).unwrap();
    assert!(lines_of(&answer.headers, "Path").is_empty());
    assert!(!stored(&desk).is_empty());
}

#[test]
fn without_a_path_mode_path_is_ignored() {
    let mut desk = Desk::new();
    desk.registrar.path_mode = PathMode::Ignore;
    let answer = desk.register("c", 1, &[CONTACT, "Path: rubbish", SUPPORTED]).unwrap();
    assert!(lines_of(&answer.headers, "Path").is_empty());
    assert_eq!(stored(&desk), "");
}

#[test]
fn r_p13_require_path_is_refused_where_path_is_off_and_counts_as_support_else() {
    let require = "Require: path";
    let mut desk = Desk::new();
    desk.registrar.path_mode = PathMode::Ignore;
    let refusal = desk.register("c", 1, &[CONTACT, require]).unwrap_err();
    assert_eq!((refusal.status, text(&refusal.headers)), (420, "Unsupported: path\r\n".into()));
    for flags in ["p0", "p1", "p2"] {
        let mut desk = Desk::with_flags(flags);
        let answer = desk.register("c", 1, &[CONTACT, PATH, require]).unwrap();
        assert_eq!(lines_of(&answer.headers, "Path").is_empty(), flags == "p0", "{flags}");
    }
}

#[test]
fn r_p14_bad_values_are_400_and_change_nothing() {
    let bad = [
        "Path: sip:p1.example;lr",
        "Path: <sip:p1.example>",
        "Path: <tel:+4930;lr>",
        "Path: <sip:p2.example;lr>, <sip:p1.example>",
        "Path: <sip:p1.example;lr",
        "Path: ",
        "Path: <sip:p1.example;lr>,",
        "Path: <sip:p1.example;lr>, , <sip:p0.example;lr>",
        "Path: <>",
        "Path: *",
    ];
    for line in bad {
        let mut desk = Desk::with_flags("p1");
        assert_eq!(desk.status("c", 1, &[CONTACT, line]), 400, "{line}");
        assert!(desk.set.is_none(), "{line}");
    }
}

#[test]
fn r_p15_sixteen_values_and_2048_bytes_fit_and_no_more() {
    let values = |n: usize| format!("Path: {}", vec!["<sip:p.example;lr>"; n].join(","));
    assert_eq!(Desk::with_flags("p1").status("c", 1, &[CONTACT, &values(16)]), 200);
    assert_eq!(Desk::with_flags("p1").status("c", 1, &[CONTACT, &values(17)]), 400);
    let bytes = |n: usize| format!("Path: <sip:{}@p.example;lr>", "u".repeat(n - 19));
    let mut desk = Desk::with_flags("p1");
    assert_eq!(desk.status("c", 1, &[CONTACT, &bytes(2048)]), 200);
    assert_eq!(stored(&desk).len(), 2048);
    assert_eq!(desk.status("c", 2, &[CONTACT, &bytes(2049)]), 400);
}

#[test]
fn r_p16_the_200_repeats_the_values_in_their_order() {
    let mut desk = Desk::with_flags("p1");
    let lines = [
        CONTACT,
        SUPPORTED,
        "path: \"P, 3 é\" <sip:p3.example;lr>;x=\"a,b\" ,<sip:p2.example;lr>",
        "PATH: <sip:u@p1.example;lr;received=sip:[2001:db8::7]:5060%3Btransport%3Dtls>",
    ];
    let answer = desk.register("c", 1, &lines).unwrap();
    let expected = "\"P, 3 é\" <sip:p3.example;lr>;x=\"a,b\", <sip:p2.example;lr>, \
                    <sip:u@p1.example;lr;received=sip:[2001:db8::7]:5060%3Btransport%3Dtls>";
    assert_eq!(lines_of(&answer.headers, "Path"), [expected]);
    assert_eq!(stored(&desk), expected);
}

#[test]
fn a_refresh_replaces_or_drops_the_path() {
    let mut desk = Desk::with_flags("p1");
    desk.register("c", 1, &[CONTACT, PATH]).unwrap();
    desk.register("c", 2, &[CONTACT, "Path: <sip:p9.example;lr>"]).unwrap();
    assert_eq!(stored(&desk), "<sip:p9.example;lr>");
    desk.register("c", 3, &[CONTACT]).unwrap();
    assert_eq!(stored(&desk), "");
}

#[test]
fn path_applies_to_every_contact_of_the_register() {
    let mut desk = Desk::with_flags("p1");
    desk.register("c", 1, &["Contact: <sip:1@h>, <sip:2@h>", PATH]).unwrap();
    for binding in &desk.set.as_ref().unwrap().bindings {
        assert_eq!(binding.fields().path, b"<sip:p2.example;lr>, <sip:p1.example;lr>");
    }
    let answer = desk.register("d", 1, &["Contact: *", "Expires: 0", PATH]).unwrap();
    assert_eq!(answer.code, SaveCode::Deleted);
}

#[test]
fn a_phone_can_leave_through_another_edge() {
    let mut desk = Desk::with_flags("p1");
    desk.register("c", 1, &[CONTACT, PATH]).unwrap();
    let lines = ["Contact: <sip:ua1@192.0.2.4>;expires=0", "Path: <sip:p7.example;lr>"];
    desk.register("c", 2, &lines).unwrap();
    assert!(desk.contacts().is_empty());
}

#[test]
fn r_p17_path_received_counts_from_trusted_peers_only() {
    let received = |flags: &str, trusted: bool, path: &str| {
        let mut desk = Desk::with_flags(flags);
        desk.trusted = trusted;
        desk.register("c", 1, &[CONTACT, &format!("Path: {path}")]).unwrap();
        let nat = desk.set.as_ref().unwrap().bindings[0].fields().nat;
        (desk.first(|fields| fields.received.to_vec()), nat)
    };
    let one = "<sip:p1.example;lr;received=sip:203.0.113.5:1024%3btransport%3dtcp>";
    let of_one = ("sip:203.0.113.5:1024;transport=tcp".to_owned(), true);
    assert_eq!(received("p1v", true, one), of_one);
    assert_eq!(received("p1v", false, one), (String::new(), false));
    assert_eq!(received("p1", true, one), (String::new(), false));
    let pair = format!("<sip:p1.example;lr;r2=on>, {}", one.replace(";lr", ";lr;r2=on"));
    assert_eq!(received("p1v", true, &pair), of_one, "the second of a pair");
    let two = format!("<sip:p2.example;lr>, {one}");
    assert_eq!(received("p1v", true, &two), (String::new(), false), "the topmost only");
    let name = "<sip:p1.example;lr;received=sip:phone.example:5060>";
    assert_eq!(received("p1v", true, name), (String::new(), false));
}

#[test]
fn r_p12_a_registrar_never_answers_421_because_of_path() {
    for flags in ["", "p0", "p1", "p2"] {
        for lines in [&[CONTACT][..], &[CONTACT, PATH], &[CONTACT, PATH, "Require: path"]] {
            assert_ne!(Desk::with_flags(flags).status("c", 1, lines), 421, "{flags} {lines:?}");
        }
    }
}

#[test]
fn r_p2_each_value_is_in_brackets_and_has_lr() {
    let mut desk = Desk::with_flags("p1");
    let good = "<sip:p2.example;lr>, \"P1; lr, x\" <sips:p1.example;transport=tcp;%6Cr=on>;a=b";
    assert_eq!(desk.status("c", 1, &[CONTACT, &format!("Path: {good}")]), 200);
    assert_eq!(stored(&desk), good);
    for bad in ["sip:p1.example;lr", "<sip:p1.example>", "<sip:p2.example;lr>, <tel:+4930;lr>"] {
        assert_eq!(desk.status("d", 1, &[CONTACT, &format!("Path: {bad}")]), 400, "{bad}");
    }
}
