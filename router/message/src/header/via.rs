//! Via (RFC 3261 20.42, RFC 3581).

use super::params::unquote;
use super::{Param, Params};
use crate::host::{self, Host};
use crate::{Fault, HeaderName, chars};

/// One Via value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// Transport as written (`UDP`, `tcp`, ...).
    pub transport: &'a [u8],
    /// Host part of sent-by.
    pub host: Host<'a>,
    /// Host part of sent-by as written (IPv6 with its brackets).
    pub host_text: &'a [u8],
    /// Port of sent-by, where written.
    pub port: Option<u16>,
    /// Parameters.
    pub params: Params<'a>,
    /// The whole value: use [`crate::Span::locate`] to edit at its end.
    pub text: &'a [u8],
    /// The parameters every request is matched and answered by.
    known: Known<'a>,
}

/// Parameters kept from the one pass over all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known<'a> {
    branch: Option<&'a [u8]>,
    received: Option<&'a [u8]>,
    rport: Option<&'a [u8]>,
    maddr: Option<&'a [u8]>,
}

impl<'a> Via<'a> {
    /// The magic cookie of RFC 3261 17.2.3.
    pub const COOKIE: &'static [u8] = b"z9hG4bK";

    /// Parses one Via value. White space around `/` and before the sent-by port is legal.
    /// A second `branch`, `received` or `rport` is refused.
    pub fn parse(value: &'a [u8]) -> Result<Via<'a>, Fault> {
        parse(chars::trim_lws(value)).ok_or(Fault::Header(HeaderName::Via))
    }
    /// The branch, where there is one.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.known.branch
    }
    /// The branch, where it begins with the cookie and has more after it.
    pub fn rfc3261_branch(&self) -> Option<&'a [u8]> {
        self.branch().filter(|b| {
            b.len() > 7 && b.get(..7).is_some_and(|c| c.eq_ignore_ascii_case(Self::COOKIE))
        })
    }
    /// The slice of `text` holding the `rport` parameter without its semicolon, for replacement.
    pub fn rport_text(&self) -> Option<&'a [u8]> {
        self.known.rport
    }
    /// The slice of `text` holding the `received` parameter without its semicolon.
    pub fn received_text(&self) -> Option<&'a [u8]> {
        self.known.received
    }
    /// The value of `maddr`, where there is one.
    pub fn maddr(&self) -> Option<&'a [u8]> {
        self.known.maddr
    }
}

fn parse(text: &[u8]) -> Option<Via<'_>> {
    let rest = match text.strip_prefix(b"SIP/2.0/") {
        Some(rest) => rest,
        None => slash(token(slash(token(text)?.1)?)?.1)?,
    };
    let (transport, rest) = match rest.strip_prefix(b"UDP ") {
        // Nearly all, and the search for the token's end is saved.
        Some(_) => chars::split(rest, 3),
        None => token(chars::skip_lws(rest))?,
    };
    let sent_by = chars::skip_lws(rest);
    if sent_by.len() == rest.len() {
        return None;
    }
    let (at, params) = match host::plain_sent_by(sent_by) {
        Some((at, params)) => (at, params.get(1..)),
        None => match chars::split_once(sent_by, b';') {
            Some((sent_by, params)) => (host::sent_by(chars::trim_lws(sent_by))?, Some(params)),
            None => (host::sent_by(chars::trim_lws(sent_by))?, None),
        },
    };
    let (params, known) = match params {
        Some(params) => match usual_params(params) {
            Some(known) => (Params(params), known),
            None => parse_params(params)?,
        },
        None => (Params::default(), Known::default()),
    };
    Some(Via { transport, host: at.host, host_text: at.text, port: at.port, params, text, known })
}

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = text.iter().position(|b| !chars::is(*b, chars::TOKEN))?;
    (len > 0).then_some(chars::split(text, len))
}

fn slash(text: &[u8]) -> Option<&[u8]> {
    chars::skip_lws(text).strip_prefix(b"/").map(chars::skip_lws)
}

/// The parameters as most clients write them: a branch, and `rport` (RFC 3581 3) or nothing behind it.
#[inline]
fn usual_params(text: &[u8]) -> Option<Known<'_>> {
    let (branch, rest) = chars::span_of(text.strip_prefix(b"branch=")?, chars::VALUE);
    let rport = match rest {
        [] => None,
        [b';', rport @ ..] if rport == b"rport" => Some(rport),
        _ => return None,
    };
    (!branch.is_empty()).then_some(Known { branch: Some(branch), rport, ..Known::default() })
}

fn parse_params(text: &[u8]) -> Option<(Params<'_>, Known<'_>)> {
    let mut known = Known::default();
    let mut twice = false;
    let mut branches = 0u32;
    let params = Params::parse(text, |Param { text, name, value }| match name.len() {
        6 if same(name, b"branch") => {
            branches = branches.saturating_add(1);
            known.branch = value.map(unquote);
        }
        8 if name.eq_ignore_ascii_case(b"received") => {
            twice |= known.received.replace(text).is_some();
        }
        5 if same(name, b"rport") => {
            twice |= known.rport.replace(text).is_some();
        }
        5 if name.eq_ignore_ascii_case(b"maddr") && known.maddr.is_none() => {
            known.maddr = value.map(unquote);
        }
        _ => {}
    })?;
    (!twice && branches < 2).then_some((params, known))
}

/// Compares without case, what is usual first.
#[inline]
fn same<const N: usize>(name: &[u8], usual: &[u8; N]) -> bool {
    name == usual || name.eq_ignore_ascii_case(usual)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn usual_parameters_are_read_as_any_other(
            text in "branch=[ab;=\", \\\\<\u{e9}]{0,8}(;(rport|branch|RPORT|x)[;= a]{0,2}){0,2}",
        ) {
            if let Some(known) = usual_params(text.as_bytes()) {
                prop_assert_eq!(
                    parse_params(text.as_bytes()),
                    Some((Params(text.as_bytes()), known))
                );
            }
        }
    }

    #[test]
    fn white_space_is_legal_around_every_separator() {
        let via = Via::parse(
            b"SIP  / 2.0\r\n  / TCP     spindle.example.com : 5070  ;\r\n branch  = \
            z9hG4bK9ikj8 ; rport ",
        )
        .expect("legal");
        assert_eq!(via.transport, b"TCP");
        assert_eq!(via.host, Host::Name(b"spindle.example.com"));
        assert_eq!(via.port, Some(5070));
        assert_eq!(via.rfc3261_branch(), Some(&b"z9hG4bK9ikj8"[..]));
        assert_eq!(via.rport_text(), Some(&b"rport"[..]));
    }

    #[test]
    fn received_is_found_with_and_without_brackets() {
        for text in ["received=2001:db8::1", "received=[2001:db8::1]", "received = 192.0.2.1"] {
            let value = format!("SIP/2.0/UDP [2001:db8::9];{text};branch=z9hG4bKx");
            let via = Via::parse(value.as_bytes()).expect(text);
            assert_eq!(via.received_text(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn the_cookie_alone_is_no_branch() {
        let via = Via::parse(b"SIP/2.0/UDP a;branch=z9hG4bK").expect("legal");
        assert_eq!(via.rfc3261_branch(), None);
        assert_eq!(via.branch(), Some(&b"z9hG4bK"[..]));
    }

    #[test]
    fn broken_values_are_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 a",
            "SIP/2.0/UDP a;;",
            "SIP/2.0/UDP a;",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP a:0",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDPa;x",
            "SIP/2.0/UDP a;branch=1;branch=2",
            "SIP/2.0/UDP a;rport;RPORT=1",
            "/2.0/UDP a",
            "SIP/2.0/UDP a, SIP/2.0/UDP b",
            "SIP/2.0/UDP a;x=\"",
            "SIP/2.0/UDP ;branch=z9hG4bKx",
        ] {
            assert_eq!(Via::parse(bad.as_bytes()), Err(Fault::Header(HeaderName::Via)), "{bad}");
        }
    }
}
