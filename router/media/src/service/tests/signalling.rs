//! Offers and answers in every place they may stand (RFC 3264, RFC 3261 13, RFC 3262, RFC 3311).

use super::*;

/// A call from `a` to `b`: where the relay is for the caller and for the callee.
fn up(stand: &Stand) -> (SocketAddr, SocketAddr) {
    let invite = Message::invite("a");
    let offer = stand.manage(&invite.with(&sdp("192.0.2.1", 4_000))).unwrap();
    let answer = invite.answer(200, "b").with(&sdp("192.0.2.2", 5_000));
    (place(&stand.manage(&answer).unwrap()), place(&offer))
}

#[test]
fn a_call_is_relayed_from_invite_to_bye() {
    let mut stand = Stand::new();
    let (for_a, for_b) = up(&stand);
    assert_eq!(stand.packet(for_a, "192.0.2.1:4000"), Some("192.0.2.2:5000".parse().unwrap()));
    assert_eq!(stand.packet(for_b, "192.0.2.2:5000"), Some("192.0.2.1:4000".parse().unwrap()));
    assert_eq!(stand.packet(for_a, "192.0.2.9:4000"), None);
    stand.now_ms = 5_000;
    stand.manage(&Message::of(Method::Bye, "b", "a")).unwrap();
    let record = stand.last_record();
    assert_eq!((record.reason.word(), record.duration_ms, record.answered), ("ended", 5_000, true));
    assert_eq!((&*record.caller_tag, &*record.callee_tag), ("a", "b"));
    let stream = &record.streams[0];
    let legs = (stream.caller.packets, stream.callee.packets, stream.caller.dropped);
    assert_eq!((&*stream.kind, legs), ("audio", (1, 1, 1)));
    assert_eq!((record.streams.len(), stream.caller.lost), (1, Some(0)));
    stand.check_empty();
}

#[test]
fn rfc_3264_4_a_late_offer_is_answered_in_the_ack() {
    let mut stand = Stand::new();
    let invite = Message::invite("a");
    stand.manage(&invite).unwrap();
    let offer = invite.answer(200, "b").with(&sdp("192.0.2.2", 5_000));
    let shown = stand.manage(&offer).unwrap();
    assert!(is_ours(&shown));
    assert_eq!(stand.manage(&offer), Ok(shown.clone()), "sent again, as UDP has it");
    let ack = Message::of(Method::Ack, "a", "b").with(&sdp("192.0.2.1", 4_000));
    let for_b = place(&stand.manage(&ack).unwrap());
    stand.manage(&ack).unwrap();
    let peer = Some("192.0.2.2:5000".parse().unwrap());
    assert_eq!(stand.packet(place(&shown), "192.0.2.1:4000"), peer);
    assert!(stand.packet(for_b, "192.0.2.2:5000").is_some());
    stand.manage(&Message::of(Method::Bye, "a", "b")).unwrap();
    stand.check_empty();
}

#[test]
fn early_media_of_one_branch_and_the_answer_of_another() {
    let mut stand = Stand::new();
    let invite = Message::invite("a");
    stand.manage(&invite.with(&sdp("192.0.2.1", 4_000))).unwrap();
    let early = invite.answer(183, "x").with(&sdp("192.0.2.8", 8_000)).in_branch(0);
    let for_a = place(&stand.manage(&early).unwrap());
    assert_eq!(stand.packet(for_a, "192.0.2.1:4000"), Some("192.0.2.8:8000".parse().unwrap()));
    let answer = invite.answer(200, "b").with(&sdp("192.0.2.2", 5_000)).in_branch(1);
    assert_eq!(place(&stand.manage(&answer).unwrap()), for_a);
    assert_eq!(stand.packet(for_a, "192.0.2.1:4000"), Some("192.0.2.2:5000".parse().unwrap()));
    // RFC 3261 13.2.2.4: the other 2xx is acknowledged and ended; this call goes on.
    let late = invite.answer(200, "x").with(&sdp("192.0.2.8", 8_000)).in_branch(0);
    assert!(!is_ours(&stand.manage(&late).unwrap()));
    stand.manage(&Message::of(Method::Bye, "a", "x")).unwrap();
    assert!(stand.packet(for_a, "192.0.2.1:4000").is_some());
    stand.manage(&Message::of(Method::Bye, "a", "b")).unwrap();
    stand.check_empty();
}

#[test]
fn branches_with_offers_of_their_own_have_media_of_their_own() {
    let mut stand = Stand::new();
    let invite = Message::invite("a").with(&sdp("192.0.2.1", 4_000));
    let offers: Vec<_> =
        (0..3).map(|n| place(&stand.manage(&invite.in_branch(n)).unwrap())).collect();
    assert!(offers[0] != offers[1] && offers[1] != offers[2]);
    stand.refused(&invite, Some(0));
    let early = invite.answer(183, "x").with(&sdp("192.0.2.8", 8_000)).in_branch(1);
    let early_at = place(&stand.manage(&early).unwrap());
    let answer = invite.answer(200, "b").with(&sdp("192.0.2.2", 5_000)).in_branch(2);
    let for_a = place(&stand.manage(&answer).unwrap());
    assert_ne!(early_at, for_a);
    assert_eq!(stand.service.list(stand.now(), 9).len(), 1, "the others were cancelled");
    assert!(stand.packet(offers[2], "192.0.2.2:5000").is_some());
    assert_eq!(stand.packet(offers[1], "192.0.2.8:8000"), None);
    stand.manage(&Message::of(Method::Bye, "b", "a")).unwrap();
    stand.check_empty();
}

#[test]
fn what_is_refused_or_cancelled_leaves_nothing() {
    let mut stand = Stand::new();
    let invite = Message::invite("a").with(&sdp("192.0.2.1", 4_000));
    for branches in [0, 2] {
        stand.manage(&invite).unwrap();
        for branch in 0..branches {
            stand.manage(&invite.in_branch(branch)).unwrap();
        }
        stand.refused(&invite, None);
        assert_eq!(stand.last_record().reason.word(), "refused");
    }
    stand.check_empty();
}

#[test]
fn rfc_3261_14_a_re_invite_of_either_side_and_one_that_is_refused() {
    let mut stand = Stand::new();
    let (for_a, for_b) = up(&stand);
    let hold = Message::of(Method::Invite, "b", "a");
    let text = sdp("192.0.2.2", 5_000) + "a=sendonly\r\n";
    assert_eq!(place(&stand.manage(&hold.with(&text)).unwrap()), for_a);
    let answer = hold.answer(200, "a").with(&(sdp("192.0.2.1", 4_000) + "a=recvonly\r\n"));
    assert_eq!(place(&stand.manage(&answer).unwrap()), for_b);
    assert!(stand.packet(for_a, "192.0.2.1:4000").is_some(), "nobody has moved");
    let moved = Message::of(Method::Invite, "a", "b");
    stand.manage(&moved.with(&sdp("192.0.2.99", 4_900))).unwrap();
    stand.refused(&moved, None);
    assert_eq!(stand.packet(for_b, "192.0.2.2:5000"), Some("192.0.2.1:4000".parse().unwrap()));
    stand.manage(&moved.with(&sdp("192.0.2.99", 4_900))).unwrap();
    stand.manage(&moved.answer(200, "b").with(&sdp("192.0.2.2", 5_000))).unwrap();
    assert_eq!(stand.packet(for_b, "192.0.2.2:5000"), Some("192.0.2.99:4900".parse().unwrap()));
    stand.manage(&Message::of(Method::Bye, "a", "b")).unwrap();
    stand.check_empty();
}

#[test]
fn rfc_3262_an_offer_in_a_183_is_answered_in_the_prack_and_changed_by_update() {
    let mut stand = Stand::new();
    let invite = Message::invite("a");
    stand.manage(&invite).unwrap();
    let for_a = stand.manage(&invite.answer(183, "b").with(&sdp("192.0.2.2", 5_000))).unwrap();
    let prack = Message::of(Method::Prack, "a", "b");
    let for_b = stand.manage(&prack.with(&sdp("192.0.2.1", 4_000))).unwrap();
    assert!(is_ours(&for_a) && is_ours(&for_b));
    assert!(stand.packet(place(&for_a), "192.0.2.1:4000").is_some());
    let update = Message::of(Method::Update, "a", "b");
    stand.manage(&update.with(&sdp("192.0.2.1", 4_100))).unwrap();
    stand.manage(&update.answer(200, "b").with(&sdp("192.0.2.2", 5_000))).unwrap();
    let to = stand.packet(place(&for_b), "192.0.2.2:5000");
    assert_eq!(to, Some("192.0.2.1:4100".parse().unwrap()));
    // RFC 3262 5: a second offer in the PRACK itself.
    stand.manage(&prack.with(&sdp("192.0.2.1", 4_200))).unwrap();
    stand.manage(&prack.answer(200, "b").with(&sdp("192.0.2.2", 5_000))).unwrap();
    let to = stand.packet(place(&for_b), "192.0.2.2:5000");
    assert_eq!(to, Some("192.0.2.1:4200".parse().unwrap()));
    stand.manage(&invite.answer(200, "b")).unwrap();
    stand.manage(&Message::of(Method::Bye, "b", "a")).unwrap();
    stand.check_empty();
}

#[test]
fn a_message_that_passes_twice_is_relayed_once() {
    let mut stand = Stand::new();
    let invite = Message::invite("a");
    let once = stand.manage(&invite.with(&sdp("192.0.2.1", 4_000))).unwrap();
    assert_eq!(stand.manage(&invite.with(&once)), Ok(once.clone()));
    let answer = invite.answer(200, "b");
    let for_a = stand.manage(&answer.with(&sdp("192.0.2.2", 5_000))).unwrap();
    assert_eq!(stand.manage(&answer.with(&for_a)), Ok(for_a.clone()));
    assert!(stand.packet(place(&for_a), "192.0.2.1:4000").is_some());
    stand.manage(&Message::of(Method::Bye, "b", "a")).unwrap();
    stand.check_empty();
}

#[test]
fn dialogs_nobody_has_begun_are_left_alone() {
    let mut stand = Stand::new();
    let text = sdp("192.0.2.1", 4_000);
    for message in [
        Message::of(Method::Invite, "a", "b"),
        Message::of(Method::Ack, "a", "b"),
        Message::invite("a").answer(200, "b"),
        Message::of(Method::Message, "a", ""),
        Message { content_type: "text/plain", ..Message::of(Method::Info, "a", "b") },
    ] {
        assert_eq!(stand.manage(&message.with(&text)), Ok(text.clone()), "{message:?}");
    }
    stand.check_empty();
}

#[test]
fn a_stranger_who_knows_one_tag_ends_nothing() {
    let stand = Stand::new();
    let (for_a, _) = up(&stand);
    for (from, to) in [("a", "x"), ("x", "a"), ("x", "b"), ("b", "x"), ("a", ""), ("", "")] {
        stand.manage(&Message::of(Method::Bye, from, to)).unwrap();
        stand.refused(&Message::of(Method::Invite, from, to), None);
    }
    assert!(stand.packet(for_a, "192.0.2.1:4000").is_some());
}

#[test]
fn flags_choose_addresses_and_families() {
    let stand = Stand::new();
    let flags = "in-iface=v4 out-iface=v6 replace-origin replace-session-connection";
    let invite = Message::invite("a");
    let offer = invite.with(&sdp("192.0.2.1", 4_000));
    let shown = stand.order(Action::Manage, flags, &offer).unwrap();
    assert_eq!(shown.matches("IN IP6 2001:db8::1\r\n").count(), 3, "{shown}");
    let answer = invite.answer(200, "b").with(&sdp("2001:db8::b", 5_000));
    let shown = stand.manage(&answer).unwrap();
    assert_eq!(shown.matches("IN IP4 198.51.100.1\r\n").count(), 3, "{shown}");
    let other = Message { call_id: "other".to_owned(), ..Message::invite("a") };
    let offer = other.with(&sdp("192.0.2.1", 4_000));
    let shown = stand.order(Action::Offer, "address-family=IP6", &offer).unwrap();
    assert!(place(&shown).is_ipv6());
    let missing = MediaFlags::parse("in-iface=v5").unwrap();
    assert!(stand.service.check(&missing).unwrap_err().contains("v5"));
}

#[test]
fn r_m5_behind_nat_the_source_of_the_signalling_is_heard_at_once() {
    let stand = Stand::new();
    let invite = Message::invite("a");
    let offer = invite.with(&sdp("10.0.0.3", 4_000));
    stand.order(Action::Manage, "SIP-source-address", &offer).unwrap();
    let answer = invite.answer(200, "b").with(&sdp("192.0.2.2", 5_000));
    let for_a = place(&stand.manage(&answer).unwrap());
    assert!(stand.packet(for_a, "203.0.113.77:61000").is_some(), "the NAT has changed the port");
    assert_eq!(stand.packet(for_a, "203.0.113.78:4000"), None);
}

#[test]
fn rfc_5621_a_description_beside_other_parts_is_relayed() {
    let stand = Stand::new();
    let text = sdp("192.0.2.1", 4_000);
    let body = format!(
        "--b\r\nContent-Type: application/sdp\r\n\r\n{text}\r\n--b\r\n\
         Content-Type: application/isup\r\n\r\n\u{1}\u{2}\r\n--b--\r\n"
    );
    let content_type = "multipart/mixed; boundary=b";
    let invite = Message { content_type, ..Message::invite("a").with(&body) };
    let shown = stand.manage(&invite).unwrap();
    assert!(shown.contains("c=IN IP4 198.51.100.1\r\n"), "{shown}");
    assert!(shown.ends_with("\r\n\r\n\u{1}\u{2}\r\n--b--\r\n"));
}
