use super::*;
use proptest::prelude::*;

fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(a, p, b, q)| {
        (SocketAddr::from((Ipv4Addr::from(a), p)), SocketAddr::from((Ipv4Addr::from(b), q)))
    });
    let v6 = any::<([u8; 16], u16, [u8; 16], u16)>().prop_map(|(a, p, b, q)| {
        (SocketAddr::from((Ipv6Addr::from(a), p)), SocketAddr::from((Ipv6Addr::from(b), q)))
    });
    prop_oneof![v4, v6]
}

fn hop(vlan: u16) -> Hop {
    Hop { source_mac: [2, 0, 0, 0, 0, 1], target_mac: [2, 0, 0, 0, 0, 2], vlan, mtu: 1500 }
}

fn frame(hop: &Hop, (source, target): (SocketAddr, SocketAddr), payload: &[u8]) -> Vec<u8> {
    let headers = Headers::new(hop, source, target, payload, 7).unwrap();
    [headers.as_slice(), payload].concat()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        ends in addresses(), vlan in 0u16..4096, payload in prop::collection::vec(any::<u8>(), 0..1500)
    ) {
        let frame = frame(&hop(vlan), ends, &payload);
        let parsed = parse(&frame).unwrap();
        prop_assert_eq!((parsed.source, parsed.target, parsed.vlan), (ends.0, ends.1, vlan));
        prop_assert_eq!(&frame[parsed.payload], &payload[..]);
    }

    #[test]
    fn one_flipped_bit_in_ip_or_udp_is_noticed_or_changes_nothing_that_counts(
        ends in addresses(), payload in prop::collection::vec(any::<u8>(), 1..200), bit in any::<u16>()
    ) {
        let mut frame = frame(&hop(0), ends, &payload);
        let good = parse(&frame).unwrap();
        let bits = (frame.len() - 14) * 8;
        let bit = usize::from(bit) % bits;
        frame[14 + bit / 8] ^= 1 << (bit % 8);
        if let Ok(parsed) = parse(&frame) {
            // IPv6 protects neither flow label nor hop limit; IPv4 lets the sum be absent.
            let absent = frame[14 + 20 + 6..14 + 20 + 8] == [0, 0] && ends.0.is_ipv4();
            prop_assert!(absent || (parsed == good && frame[parsed.payload] == payload));
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn truncated_frames_are_refused(ends in addresses(), cut in 1usize..60) {
        let frame = frame(&hop(0), ends, b"OPTIONS sip:a@b SIP/2.0\r\n\r\n");
        prop_assert!(parse(&frame[..frame.len() - cut]).is_err());
    }
}

#[test]
fn a_partial_checksum_of_a_local_peer_is_taken() {
    for ends in ["192.0.2.1:5060 192.0.2.2:5061", "[2001:db8::1]:5060 [2001:db8::2]:5061"] {
        let (source, target) = ends.split_once(' ').unwrap();
        let (source, target): (SocketAddr, SocketAddr) =
            (source.parse().unwrap(), target.parse().unwrap());
        let mut frame = frame(&hop(0), (source, target), b"payload");
        let udp = 14 + ip_headers(source.ip()) - 8;
        let partial = Sum::default().pseudo(source.ip(), target.ip(), 8 + 7).folded();
        frame[udp + 6..udp + 8].copy_from_slice(&partial.to_be_bytes());
        assert!(parse(&frame).is_ok());
        frame[udp + 7] ^= 1;
        assert_eq!(parse(&frame), Err(Unfit::Checksum));
    }
}

#[test]
fn addresses_of_two_families_and_endless_payloads_have_no_headers() {
    let (v4, v6) = ("192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap());
    assert!(Headers::new(&hop(0), v4, v6, b"", 0).is_none());
    assert!(Headers::new(&hop(0), v4, v4, &[0; 65_520], 0).is_none());
}
