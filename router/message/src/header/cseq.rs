//! CSeq (RFC 3261 20.16).

use crate::{Fault, HeaderName, Method, chars};

/// Sequence number and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Sequence number, below 2^31 (RFC 3261 8.1.1.5).
    pub number: u32,
    /// The method, where we know it.
    pub method: Method,
    /// The method as written.
    pub token: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Parses the value: digits, white space, a token.
    pub fn parse(value: &'a [u8]) -> Result<CSeq<'a>, Fault> {
        parse(chars::trim_lws(value)).ok_or(Fault::Header(HeaderName::CSeq))
    }
}

fn parse(text: &[u8]) -> Option<CSeq<'_>> {
    let (number, rest) = chars::leading_decimal(text).filter(|(number, _)| *number < 1 << 31)?;
    let token = chars::skip_lws(rest);
    if token.len() == rest.len() {
        return None;
    }
    Some(CSeq { number, method: Method::parse(token)?, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_two_to_the_31() {
        let cseq = CSeq::parse(b"0009\r\n  INVITE").expect("legal");
        assert_eq!((cseq.number, cseq.method), (9, Method::Invite));
        assert_eq!(CSeq::parse(b"2147483647 ACK").map(|c| c.number), Ok((1 << 31) - 1));
        for bad in [
            "2147483648 ACK",
            "36893488147419103232 REGISTER",
            "1",
            "1ACK",
            "-1 ACK",
            "",
            "1 ACK, 2 ACK",
            "1 A CK",
            "1 ",
        ] {
            assert_eq!(CSeq::parse(bad.as_bytes()), Err(Fault::Header(HeaderName::CSeq)), "{bad}");
        }
    }
}
