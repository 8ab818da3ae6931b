use std::sync::Arc;

use super::*;
use crate::flow::{ConnId, Flow};
use crate::location::tests::Nobody;
use crate::time::Now;

/// A request that came from 198.51.100.7:40000 by UDP.
fn run(via: &str, contact: &str, sdp_ip: &str) -> Box<Run> {
    run_by(Transport::Udp, via, contact, sdp_ip)
}

fn run_by(transport: Transport, via: &str, contact: &str, sdp_ip: &str) -> Box<Run> {
    let body = format!("v=0\r\nc=IN IP4 {sdp_ip}\r\n");
    let text = format!(
        "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK1\r\n\
         Contact: {contact}\r\nContent-Type: application/sdp; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let flow = Flow {
        transport,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "198.51.100.7:40000".parse().unwrap(),
        conn: ConnId::NONE,
    };
    let settings = Arc::new(crate::settings::tests::settings());
    Run::for_tests(settings, Arc::new(Nobody), flow, Now::default(), text.as_bytes()).unwrap()
}

/// Names of the tests that hold.
fn holding(run: &Run) -> Vec<&'static str> {
    let names = NAMES.iter().map(|(name, _)| *name);
    names.filter(|name| run.nat_test(name).unwrap()).collect()
}

#[test]
fn each_nat_test_sees_what_its_name_says() {
    const PUBLIC: &str = "198.51.100.7:40000";
    let good = format!("<sip:a@{PUBLIC}>");
    let case = |via: &str, contact: &str, sdp: &str| holding(&run(via, contact, sdp));
    assert!(case(PUBLIC, &good, "198.51.100.7").is_empty());
    assert_eq!(case("10.0.0.4:40000", &good, "198.51.100.7"), ["diff-ip-src-via", "private-via"]);
    assert_eq!(case("198.51.100.7", &good, "198.51.100.7"), ["diff-port-src-via"]);
    assert_eq!(
        case(PUBLIC, "<sip:a@192.168.1.4:40000>", "198.51.100.7"),
        ["private-contact", "diff-ip-src-contact"]
    );
    assert_eq!(case(PUBLIC, "<sip:a@198.51.100.7>", "198.51.100.7"), ["diff-port-src-contact"]);
    assert_eq!(case(PUBLIC, &good, "172.16.3.4/127"), ["private-sdp"]);
    assert_eq!(
        case(PUBLIC, "<sip:a@100.127.255.254:40000>", "198.51.100.7"),
        ["diff-ip-src-contact", "carrier-grade-nat"]
    );
    assert_eq!(case(PUBLIC, &good, "100.64.0.1"), ["carrier-grade-nat"]);
    assert_eq!(
        case("phone.example:40000", "<sip:a@[fd00::4]:40000>", "198.51.100.7"),
        ["private-contact", "diff-ip-src-via", "diff-ip-src-contact"]
    );
}

#[test]
fn nat_tests_come_as_names_or_as_the_sum_of_their_old_bits() {
    let behind = run("10.0.0.4", "<sip:a@10.0.0.4>", "10.0.0.4");
    assert_eq!(behind.nat_test("private-contact, carrier-grade-nat"), Ok(true));
    assert_eq!(behind.nat_test("carrier-grade-nat"), Ok(false));
    assert_eq!(behind.nat_test("19"), Ok(true));
    assert_eq!(behind.nat_test("128"), Ok(false));
    for bad in ["private-contacts", "", "0", "256", "private-contact,,private-via"] {
        assert!(behind.nat_test(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_fixed_contact_names_the_source_and_keeps_the_rest() {
    let fixed = |run: &mut Run| {
        let done = run.fix_nat_contact();
        let added = run.effects.edits.iter().find_map(|edit| match edit {
            HeaderEdit::Add { value, .. } => Some(String::from_utf8(value.to_vec()).unwrap()),
            HeaderEdit::Remove { .. } | HeaderEdit::RemoveLine { .. } => None,
        });
        assert_eq!(done, Ok(added.is_some()));
        added
    };
    let cases = [
        (
            "\"A\" <sip:a@10.0.0.4:5060;ob>;expires=60",
            Some("<sip:a@198.51.100.7:40000;ob>;expires=60"),
        ),
        ("sip:a@[fd00::4]", Some("<sip:a@198.51.100.7:40000>")),
        ("<sip:a@198.51.100.7:40000>", None),
        ("<sip:a@10.0.0.4>, <sip:b@10.0.0.4>", None),
        ("<tel:+4930>", None),
    ];
    for (contact, expected) in cases {
        let mut run = run("10.0.0.4", contact, "10.0.0.4");
        assert_eq!(fixed(&mut run).as_deref(), expected, "{contact}");
    }
    let mut stream = run_by(Transport::Tcp, "h", "<sip:a@10.0.0.4>", "10.0.0.4");
    assert_eq!(fixed(&mut stream), None, "a URI without transport means UDP");
    let mut stream = run_by(Transport::Tcp, "h", "<sip:a@10.0.0.4;transport=tcp>", "10.0.0.4");
    let expected = "<sip:a@198.51.100.7:40000;transport=tcp>";
    assert_eq!(fixed(&mut stream).as_deref(), Some(expected));
}

/// Edits have a bound, and a request whose Contact were only removed would be illegal.
#[test]
fn a_contact_that_cannot_be_written_anew_stays() {
    let mut run = run("192.0.2.9", "<sip:a@192.0.2.9>", "192.0.2.9");
    for _ in 0..63 {
        run.add_header("X-One", "1").unwrap();
    }
    assert_eq!(run.fix_nat_contact(), Err(EditFault::TooLarge));
    assert_eq!(run.effects.edits.len(), 63);
}
