//! Two independent readers, `rsip` and `sipx-sip`: on well-formed messages all must read the same.
//! Where one of them errs it is listed with the reason in [`disagreements`].
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may

mod disagreements;
mod reading;
mod rsip_reader;
mod sipx_reader;

use proptest::prelude::*;

use disagreements::{BASE, RSIP, SIPX};
use reading::ours;

fn host() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}(-[a-z]{1,3})?\\.(com|example)", "(1|10|192)\\.0\\.(2|99)\\.[1-9]"]
}

fn uri() -> impl Strategy<Value = String> {
    let params = prop_oneof![
        Just(""),
        Just(";transport=tcp"),
        Just(";lr"),
        Just(";ob"),
        Just(";maddr=192.0.2.9;ttl=1"),
    ];
    ("([a-zA-Z0-9+_-]{1,9}@)?", host(), "(:[1-9][0-9]{0,3})?", params)
        .prop_map(|(user, host, port, params)| format!("sip:{user}{host}{port}{params}"))
}

fn address() -> impl Strategy<Value = String> {
    ("(\"[a-zA-Z ]{1,9}\" |[a-z]{1,6} )?", uri()).prop_map(|(name, uri)| format!("{name}<{uri}>"))
}

prop_compose! {
    fn message()(
        method in prop_oneof!["INVITE|OPTIONS|REGISTER|BYE|MESSAGE", Just("SUBSCRIBE".to_owned())],
        uri in uri(),
        transport in "UDP|TCP|TLS",
        sent_by in (host(), "(:[1-9][0-9]{0,3})?"),
        branch in "z9hG4bK[a-zA-Z0-9.-]{1,12}",
        rport in "(;rport)?",
        (from, to, contact) in (address(), address(), address()),
        tags in ("[a-z0-9]{1,8}", "(;tag=[a-z0-9]{1,8})?"),
        call_id in "[a-zA-Z0-9.-]{1,20}(@[a-z.]{1,9})?",
        cseq in 0u32..1 << 31,
        max_forwards in 0u8..,
        extra in proptest::collection::vec("X-[A-Z][a-z]{0,5}: [!-~]{1,3}( [!-~]{1,9})?", 0..4),
        body in "[a-z=\r\n]{0,30}",
    ) -> String {
        let (host, port) = sent_by;
        let extra: String = extra.iter().map(|line| format!("{line}\r\n")).collect();
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {host}{port};branch={branch}{rport}\r\n\
             Max-Forwards: {max_forwards}\r\n{extra}From: {from};tag={}\r\nTo: {to}{}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: {contact};expires=60\r\n\
             Content-Length: {}\r\n\r\n{body}",
            tags.0, tags.1, body.len(),
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn all_read_well_formed_messages_alike(message in message()) {
        let ours = ours(message.as_bytes());
        let theirs = [
            ("rsip", rsip_reader::read(message.as_bytes())),
            ("sipx-sip", sipx_reader::read(message.as_bytes())),
        ];
        for (who, theirs) in theirs {
            prop_assert!(theirs.is_some(), "refused by {}: {}", who, message);
            prop_assert_eq!(Some(&ours), theirs.as_ref(), "{}", who);
        }
    }
}

#[test]
fn the_base_of_the_disagreements_is_read_alike() {
    assert_eq!(Some(ours(BASE.as_bytes())), rsip_reader::read(BASE.as_bytes()));
    assert_eq!(Some(ours(BASE.as_bytes())), sipx_reader::read(BASE.as_bytes()));
}

#[test]
fn every_known_disagreement_is_still_one_and_we_read_the_message() {
    let readers = [(RSIP, rsip_reader::read as fn(&[u8]) -> _), (SIPX, sipx_reader::read)];
    for (disagreements, read) in readers {
        for (from, to, why) in disagreements {
            let message = BASE.replacen(from, to, 1);
            assert_ne!(message, BASE, "{why}");
            // Panics inside where we cannot read it.
            assert_ne!(Some(ours(message.as_bytes())), read(message.as_bytes()), "{why}");
        }
    }
}

/// What one of the two gets wrong, the other must read as we do: so nothing is excused that we might
/// get wrong ourselves.
#[test]
fn where_one_errs_the_other_agrees_with_us() {
    let is_of =
        |list: &[(&str, &str, &str)], to: &str| list.iter().any(|(_, other, _)| *other == to);
    let readers =
        [(RSIP, SIPX, sipx_reader::read as fn(&[u8]) -> _), (SIPX, RSIP, rsip_reader::read)];
    for (disagreements, others, read) in readers {
        for (from, to, why) in disagreements.iter().filter(|(_, to, _)| !is_of(others, to)) {
            let message = BASE.replacen(from, to, 1);
            assert_eq!(Some(ours(message.as_bytes())), read(message.as_bytes()), "{why}");
        }
    }
}
