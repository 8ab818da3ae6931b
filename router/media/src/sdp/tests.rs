#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

const OFFER: &str = "v=0\r\n\
    o=alice 2890844526 2890844526 IN IP4 10.0.0.7\r\n\
    s=-\r\n\
    c=IN IP4 10.0.0.7\r\n\
    t=0 0\r\n\
    a=x-unknown:kept as it is \r\n\
    m=audio 49170 RTP/AVP 0 8 101\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=sendrecv\r\n\
    m=video 51372 RTP/SAVPF 96\r\n\
    i=a title\r\n\
    c=IN IP6 2001:db8::7\r\n\
    b=AS:64\r\n\
    a=rtcp:53020\r\n\
    a=rtcp-mux\r\n\
    a=inactive\r\n";

fn at(rtp: &str, rtcp: &str) -> Option<At> {
    Some(At { rtp: rtp.parse().unwrap(), rtcp: rtcp.parse().unwrap() })
}

fn rewritten(text: &str, rewrite: &Rewrite<'_>) -> String {
    String::from_utf8(Sdp::read(text.as_bytes()).unwrap().rewrite(rewrite).unwrap()).unwrap()
}

#[test]
fn what_a_relay_needs_is_read() {
    let sdp = Sdp::read(OFFER.as_bytes()).unwrap();
    let [audio, video] = sdp.media.as_slice() else { panic!() };
    assert_eq!(audio.peer(), Some("10.0.0.7:49170".parse().unwrap()));
    assert_eq!(audio.rtcp_peer(), Some("10.0.0.7:49171".parse().unwrap()));
    assert_eq!(audio.payload_types, 1 | 1 << 8 | 1 << 101);
    assert!(!audio.rtcp_mux && !audio.is_encrypted());
    assert_eq!(video.peer(), Some("[2001:db8::7]:51372".parse().unwrap()));
    assert_eq!(video.rtcp_peer(), Some("[2001:db8::7]:53020".parse().unwrap()));
    assert!(video.rtcp_mux && video.is_encrypted());
    assert_eq!((audio.direction, video.direction), (Direction::SendRecv, Direction::Inactive));
}

#[test]
fn only_the_lines_of_moved_streams_change() {
    let moves =
        [at("192.0.2.1:30000", "192.0.2.1:30001"), at("192.0.2.1:30002", "192.0.2.1:30002")];
    let expected = "v=0\r\n\
        o=alice 2890844526 2890844526 IN IP4 10.0.0.7\r\n\
        s=-\r\n\
        c=IN IP4 192.0.2.1\r\n\
        t=0 0\r\n\
        a=x-unknown:kept as it is \r\n\
        m=audio 30000 RTP/AVP 0 8 101\r\n\
        c=IN IP4 192.0.2.1\r\n\
        a=rtpmap:101 telephone-event/8000\r\n\
        a=sendrecv\r\n\
        m=video 30002 RTP/SAVPF 96\r\n\
        i=a title\r\n\
        c=IN IP4 192.0.2.1\r\n\
        b=AS:64\r\n\
        a=rtcp-mux\r\n\
        a=inactive\r\n";
    assert_eq!(rewritten(OFFER, &Rewrite { at: &moves, ..Rewrite::default() }), expected);
}

#[test]
fn the_connection_of_all_moves_only_where_no_stream_that_stays_uses_it() {
    let head = "v=0\r\nc=IN IP4 10.0.0.7\r\nm=audio 4000 RTP/AVP 0\r\n";
    let moves = [at("192.0.2.1:30000", "192.0.2.1:30001")];
    let moved = |more: &str| {
        let text =
            rewritten(&(head.to_owned() + more), &Rewrite { at: &moves, ..Rewrite::default() });
        text.starts_with("v=0\r\nc=IN IP4 192.0.2.1\r\n")
    };
    assert!(moved("") && moved("m=video 0 RTP/AVP 96\r\n"));
    assert!(moved("m=message 9 TCP/MSRP *\r\nc=IN IP4 10.0.0.8\r\n"));
    assert!(!moved("m=message 9 TCP/MSRP *\r\n"));
}

#[test]
fn a_stream_that_stays_is_kept_octet_by_octet() {
    assert_eq!(rewritten(OFFER, &Rewrite { ice: Ice::Keep, ..Rewrite::default() }), OFFER);
    let odd =
        "v=0\no=- 1 1 IN IP4 1.2.3.4\ns= \nt=0 0\nm=message 2855 TCP/MSRP *\na=path:msrp://x\n\n";
    assert_eq!(
        rewritten(odd, &Rewrite { at: &[at("192.0.2.1:9", "192.0.2.1:9")], ..Rewrite::default() }),
        odd
    );
}

#[test]
fn rfc_3605_2_an_rtcp_port_nobody_would_guess_is_named() {
    let moves =
        [at("192.0.2.1:30000", "192.0.2.9:40000"), at("[2001:db8::1]:4", "[2001:db8::1]:9")];
    let text = rewritten(OFFER, &Rewrite { at: &moves, ..Rewrite::default() });
    assert!(text.contains("a=sendrecv\r\na=rtcp:40000 IN IP4 192.0.2.9\r\nm=video 4 "), "{text}");
    assert!(text.contains("c=IN IP6 2001:db8::1\r\n"));
    assert!(text.ends_with("a=inactive\r\na=rtcp:9 IN IP6 2001:db8::1\r\n"), "{text}");
}

#[test]
fn hold_by_address_stays_hold_and_has_no_peer() {
    let text = OFFER.replace("c=IN IP4 10.0.0.7", "c=IN IP4 0.0.0.0");
    assert_eq!(Sdp::read(text.as_bytes()).unwrap().media[0].peer(), None);
    let moves = [at("192.0.2.1:30000", "192.0.2.1:30001")];
    let text = rewritten(&text, &Rewrite { at: &moves, ..Rewrite::default() });
    assert!(text.contains("m=audio 30000 RTP/AVP 0 8 101\r\nc=IN IP4 0.0.0.0\r\n"), "{text}");
}

#[test]
fn a_zero_port_stays_zero() {
    let text = OFFER.replace("m=audio 49170", "m=audio 0");
    let moves = [at("192.0.2.1:30000", "192.0.2.1:30001"), None];
    let text_after =
        rewritten(&text, &Rewrite { at: &moves, ice: Ice::Keep, ..Rewrite::default() });
    assert_eq!(text_after, text);
}

#[test]
fn ice_is_taken_out_unless_it_is_kept() {
    let ice = "a=ice-ufrag:F7gI\r\na=ice-pwd:x9cml\r\na=candidate:1 1 UDP 2130706431 10.0.0.7 8998 typ host\r\n\
               a=end-of-candidates\r\na=ice-lite\r\n";
    let text = format!("{OFFER}{ice}");
    assert_eq!(rewritten(&text, &Rewrite::default()), OFFER);
    assert_eq!(rewritten(&text, &Rewrite { ice: Ice::Keep, ..Rewrite::default() }), text);
}

#[test]
fn the_origin_is_replaced_where_that_is_asked() {
    let origin = Some("2001:db8::1".parse().unwrap());
    let text = rewritten(OFFER, &Rewrite { origin, ..Rewrite::default() });
    assert!(text.contains("o=alice 2890844526 2890844526 IN IP6 2001:db8::1\r\n"));
}

#[test]
fn a_last_line_without_its_end_gets_one_before_another() {
    let text = "v=0\r\nc=IN IP4 1.2.3.4\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly";
    let moves = [at("192.0.2.1:30000", "192.0.2.1:30009")];
    let text = rewritten(text, &Rewrite { at: &moves, ..Rewrite::default() });
    assert!(text.ends_with("a=sendonly\r\na=rtcp:30009 IN IP4 192.0.2.1\r\n"), "{text}");
}

#[test]
fn faults_name_their_line() {
    let fault = |text: &str| {
        let error = Sdp::read(text.as_bytes()).unwrap_err();
        (error.line, error.fault)
    };
    assert_eq!(fault(""), (1, SdpFault::Version));
    assert_eq!(fault("v=1\r\n"), (1, SdpFault::Version));
    assert_eq!(fault("v=0\r\nnonsense\r\n"), (2, SdpFault::Line));
    assert_eq!(fault("v=0\r\nm=audio 4000\r\n"), (2, SdpFault::Media));
    assert_eq!(fault("v=0\r\nm=audio 70000 RTP/AVP 0\r\n"), (2, SdpFault::Media));
    assert_eq!(fault("v=0\r\nm=audio +4 RTP/AVP 0\r\n"), (2, SdpFault::Media));
    assert_eq!(fault("v=0\r\nm=audio 4000/2 RTP/AVP 0\r\n"), (2, SdpFault::SeveralPorts));
    assert_eq!(fault("v=0\r\nc=IN IP4 ::1\r\n"), (2, SdpFault::Connection));
    assert_eq!(fault("v=0\r\nc=IN IP4 example.com\r\n"), (2, SdpFault::Connection));
    assert_eq!(fault("v=0\r\nm=audio 4 RTP/AVP 0\r\na=rtcp:0\r\n"), (3, SdpFault::Rtcp));
    let many = "m=audio 4 RTP/AVP 0\r\n".repeat(33);
    assert_eq!(fault(&format!("v=0\r\n{many}")), (34, SdpFault::TooLong));
}

#[test]
fn a_stream_without_an_address_cannot_move() {
    let sdp = Sdp::read(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n").unwrap();
    let moves = [at("192.0.2.1:30000", "192.0.2.1:30001")];
    let error = sdp.rewrite(&Rewrite { at: &moves, ..Rewrite::default() }).unwrap_err();
    assert_eq!(error, SdpError { line: 2, fault: SdpFault::NoConnection });
}

fn some_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]=[ -~]{0,20}",
        "m=(audio|video) [0-9]{1,5} (RTP/AVP|RTP/SAVP|TCP/MSRP) [0-9]{1,3}( [0-9]{1,3})?",
        "c=IN IP4 (10|0)\\.0\\.0\\.[0-9]",
        "a=rtcp:[1-9][0-9]{0,3}( IN IP4 10\\.1\\.1\\.1)?",
        "a=(sendonly|rtcp-mux|candidate:x|ice-ufrag:y|[a-z]{1,6}:[ -~]{0,9})",
        "[ -~]{0,9}",
    ]
}

proptest! {
    #[test]
    fn any_octets_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(sdp) = Sdp::read(&text) {
            prop_assert_eq!(sdp.rewrite(&Rewrite { ice: Ice::Keep, ..Rewrite::default() }).unwrap(), text);
        }
    }

    /// What was rewritten reads as what was meant: streams that moved are there, the others and
    /// the number and order of all are as they were.
    #[test]
    fn what_is_rewritten_reads_as_it_was_meant(
        lines in proptest::collection::vec(some_line(), 0..14),
        ends_bare: bool,
        moved in 0u32..8,
    ) {
        let end = if ends_bare { "\n" } else { "\r\n" };
        let text = format!("v=0{end}{}", lines.iter().map(|l| format!("{l}{end}")).collect::<String>());
        let Ok(sdp) = Sdp::read(text.as_bytes()) else { return Ok(()) };
        let moves: Vec<_> = (0..sdp.media.len())
            .map(|i| if moved & 1 << i != 0 { at("192.0.2.1:30000", "192.0.2.1:30005") } else { None })
            .collect();
        let Ok(after) = sdp.rewrite(&Rewrite { at: &moves, ice: Ice::Keep, ..Rewrite::default() }) else {
            return Ok(());
        };
        let again = Sdp::read(&after).unwrap();
        prop_assert_eq!(again.media.len(), sdp.media.len());
        for ((before, after), at) in sdp.media.iter().zip(&again.media).zip(moves) {
            prop_assert_eq!(&before.protocol, &after.protocol);
            prop_assert_eq!((before.direction, before.payload_types), (after.direction, after.payload_types));
            match at.filter(|_| before.is_relayable()) {
                None => prop_assert_eq!((before.peer(), before.rtcp_peer()), (after.peer(), after.rtcp_peer())),
                Some(at) => {
                    let held = before.connection.unwrap().is_unspecified();
                    prop_assert_eq!(after.peer(), (!held).then_some(at.rtp));
                    prop_assert!(held || after.rtcp_peer() == Some(at.rtcp));
                }
            }
        }
    }
}
