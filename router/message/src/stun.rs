//! STUN as a SIP port speaks it: a Binding request is a phone's keep-alive, and its answer tells
//! the phone its address as seen from here (RFC 5626 4.4.2 and 5.4, RFC 8489).

use std::net::{IpAddr, SocketAddr};

const HEADER_BYTES: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Attributes below this have to be understood (RFC 8489 14).
const OPTIONAL_FROM: u16 = 0x8000;
/// Unknown attributes named in an answer.
const MAX_NAMED: usize = 8;

/// Appends the answer to a Binding request that came from `source`: its address, or 420 where it
/// has an attribute that must be understood. False, and nothing appended, for everything else.
pub fn answer(request: &[u8], source: SocketAddr, out: &mut Vec<u8>) -> bool {
    let Some((header, attributes)) = request.split_first_chunk::<HEADER_BYTES>() else {
        return false;
    };
    let [kind_high, kind_low, length_high, length_low, rest @ ..] = *header;
    let [c0, c1, c2, c3, transaction @ ..] = rest;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let is_request = u16::from_be_bytes([kind_high, kind_low]) == BINDING_REQUEST
        && [c0, c1, c2, c3] == COOKIE
        && length == attributes.len()
        && length % 4 == 0;
    if !is_request {
        return false;
    }
    let Some(unknown) = unknown_attributes(attributes) else { return false };
    let (kind, body) = match unknown.is_empty() {
        true => (BINDING_SUCCESS, mapped_address(source, transaction)),
        false => (BINDING_ERROR, refusal(&unknown)),
    };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(&COOKIE);
    out.extend_from_slice(&transaction);
    out.extend_from_slice(&body);
    true
}

/// Types of attributes that must be understood and are not: a keep-alive needs none. `None` where
/// the attributes are cut short.
fn unknown_attributes(attributes: &[u8]) -> Option<Vec<u16>> {
    let mut unknown = Vec::new();
    let mut rest = attributes;
    while !rest.is_empty() {
        let ([kind_high, kind_low, length_high, length_low], after) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        rest = after.get(length.next_multiple_of(4)..)?;
        let kind = u16::from_be_bytes([*kind_high, *kind_low]);
        if kind < OPTIONAL_FROM && unknown.len() < MAX_NAMED {
            unknown.push(kind);
        }
    }
    Some(unknown)
}

/// RFC 8489 14.2.
fn mapped_address(source: SocketAddr, transaction: [u8; 12]) -> Vec<u8> {
    let mask: Vec<u8> = COOKIE.into_iter().chain(transaction).collect();
    let masked = |bytes: &[u8]| -> Vec<u8> {
        bytes.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect()
    };
    let (family, address) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, masked(&ip.octets())),
        IpAddr::V6(ip) => (2, masked(&ip.octets())),
    };
    let mut value = vec![0, family];
    value.extend(masked(&source.port().to_be_bytes()));
    value.extend(address);
    attribute(XOR_MAPPED_ADDRESS, &value)
}

/// 420 with what was not understood (RFC 8489 6.3.1).
fn refusal(unknown: &[u16]) -> Vec<u8> {
    let mut out = attribute(ERROR_CODE, &[0, 0, 4, 20]);
    let types: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
    out.extend(attribute(UNKNOWN_ATTRIBUTES, &types));
    out
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend((value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRANSACTION: [u8; 12] = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 1];
        out.extend((attributes.len() as u16).to_be_bytes());
        out.extend(COOKIE);
        out.extend(TRANSACTION);
        out.extend_from_slice(attributes);
        out
    }

    fn answered(request: &[u8], source: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        answer(request, source.parse().unwrap(), &mut out).then_some(out)
    }

    #[test]
    fn rfc_5626_5_4_a_binding_request_is_told_where_it_came_from() {
        // The addresses and the transaction of RFC 5769 2.2 and 2.3.
        let v4 = answered(&request(&[]), "192.0.2.1:32853").unwrap();
        assert_eq!(v4.len(), 32);
        assert_eq!(v4[..4], [1, 1, 0, 12]);
        assert_eq!(v4[8..20], TRANSACTION);
        assert_eq!(v4[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let v6 = answered(&request(&[]), "[2001:db8:1234:5678:11:2233:4455:6677]:32853").unwrap();
        assert_eq!(v6[20..28], [0, 0x20, 0, 20, 0, 2, 0xa1, 0x47]);
        assert_eq!(
            v6[28..],
            [
                0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2,
                0xb9, 0xd9
            ]
        );
    }

    #[test]
    fn attributes_that_must_be_understood_are_refused_by_name() {
        let software = [0x80, 0x22, 0, 3, b'a', b'b', b'c', 0];
        assert_eq!(answered(&request(&software), "192.0.2.1:1").unwrap()[..2], [1, 1]);
        let username = [&software[..], &[0, 6, 0, 2, b'u', b'p', 0, 0]].concat();
        let refused = answered(&request(&username), "192.0.2.1:1").unwrap();
        assert_eq!(refused[..4], [1, 0x11, 0, 16]);
        assert_eq!(refused[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 2, 0, 6, 0, 0]);
    }

    #[test]
    fn everything_else_gets_no_answer() {
        let good = request(&[]);
        for at in [0, 1, 2, 3, 4, 7] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(answered(&bad, "192.0.2.1:1"), None, "{at}");
        }
        assert_eq!(answered(&good[..19], "192.0.2.1:1"), None);
        assert_eq!(answered(&request(&[0, 6, 0, 9]), "192.0.2.1:1"), None, "cut short");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>, attributes: Vec<u8>) {
            let _ = answered(&bytes, "192.0.2.1:1");
            let _ = answered(&request(&attributes), "[::1]:1");
        }

        #[test]
        fn an_answer_is_never_answered(attributes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(first) = answered(&request(&attributes), "192.0.2.1:1") {
                prop_assert_eq!(answered(&first, "192.0.2.1:1"), None);
            }
        }
    }
}
