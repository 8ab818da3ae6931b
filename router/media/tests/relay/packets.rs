//! RTP and RTCP, as octets.

/// An RTP packet of payload type 0 with 160 octets that depend on its number.
pub(crate) fn rtp(sequence: u16) -> Vec<u8> {
    rtp_of(0, 0x0102_0304, sequence)
}

pub(crate) fn rtp_of(payload_type: u8, ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend((0..160u16).map(|i| (i.wrapping_mul(7) ^ sequence) as u8));
    packet
}

/// A receiver report without blocks, and a source description.
pub(crate) fn rtcp() -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1, 1, 2, 3, 4];
    packet.extend_from_slice(&[0x81, 202, 0, 3, 1, 2, 3, 4, 1, 4, b'n', b'a', b'm', b'e', 0, 0]);
    packet
}

/// A binding request (RFC 8489).
pub(crate) fn stun() -> Vec<u8> {
    let mut packet = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    packet.extend_from_slice(&[7; 12]);
    packet
}

/// The beginning of a DTLS client hello.
pub(crate) fn dtls() -> Vec<u8> {
    vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}
