//! The Internet checksum (RFC 1071) of IPv4 and UDP.

use std::net::IpAddr;

/// A sum in progress.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even offset.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Sum {
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            // 2^32 words of 32 bits fit into 64; no packet has so many.
            self.0 = self.0.wrapping_add(u64::from(u32::from_be_bytes(*word)));
        }
        let mut last = [0u8; 4];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.0 = self.0.wrapping_add(u64::from(u32::from_be_bytes(last)));
        self
    }

    /// Adds the pseudo-header of UDP (RFC 768, RFC 8200 8.1).
    pub(super) fn pseudo(self, source: IpAddr, target: IpAddr, udp_length: u16) -> Sum {
        let sum = match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                self.bytes(&source.octets()).bytes(&target.octets())
            }
            (source, target) => self.bytes(&v6(source)).bytes(&v6(target)),
        };
        Sum(sum.0.wrapping_add(u64::from(udp_length)).wrapping_add(u64::from(PROTOCOL_UDP)))
    }

    /// The sum folded to 16 bits, not inverted.
    pub(super) fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff).wrapping_add(sum >> 16);
        }
        sum as u16
    }

    /// What goes into a header.
    pub(super) fn checksum(self) -> u16 {
        !self.folded()
    }
}

const PROTOCOL_UDP: u8 = 17;

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_3_has_this_sum() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(Sum::default().bytes(&[0xff]).folded(), 0xff00);
    }
}
