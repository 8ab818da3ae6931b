//! Networks as people write them: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`.

use std::net::IpAddr;

use viaduct_engine::Network;

pub(crate) const ALLOWED: &str =
    "networks such as \"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"";

/// Reads a network; the error says what is wrong.
pub(crate) fn parse(text: &str) -> Result<Network, String> {
    let (addr, bits) = match text.split_once('/') {
        Some((addr, bits)) => (addr, Some(bits)),
        None => (text, None),
    };
    let Ok(addr) = addr.parse::<IpAddr>() else {
        return Err("has an entry that is no IP address".to_owned());
    };
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) => match bits.parse::<u8>() {
            Ok(bits) if bits <= most => bits,
            _ => return Err(format!("has a prefix length that is not from 0 to {most}")),
        },
    };
    // A host address with a prefix is more often a slip than meant: 10.0.0.1/8 trusts 16 million.
    let first = first_address(addr, bits);
    if first != addr {
        return Err(format!("has bits set after the prefix of {text} (write {first}/{bits})"));
    }
    Ok(Network { addr, bits })
}

fn first_address(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V4((addr.to_bits() & mask).into())
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V6((addr.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        assert_eq!(parse("192.0.2.7").unwrap().bits, 32);
        assert_eq!(parse("2001:db8::7").unwrap().bits, 128);
    }

    #[test]
    fn slips_are_refused_by_name() {
        for (text, needle) in [
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("10.0.0.0/33", "from 0 to 32"),
            ("2001:db8::/129", "from 0 to 128"),
            ("10.0.0.0/", "prefix length"),
            ("10.0.0", "no IP address"),
            ("example.com", "no IP address"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(needle), "{text}: {error}");
        }
        assert_eq!(parse("0.0.0.0/0").unwrap().bits, 0);
        assert_eq!(parse("::/0").unwrap().bits, 0);
    }
}
