//! SIP and SIPS URIs (RFC 3261 19.1), and others as opaque text.

pub use crate::aor::{unescape, write_aor, write_plain_user, write_user};
pub use crate::compare::equivalent;
use crate::header::Params;
pub use crate::host::Host;
use crate::{Fault, chars, compare, host};

/// URI scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other; [`Uri::scheme_text`] has it.
    Other,
}

/// A URI taken apart. For `Tel` and `Other` only `scheme`, `scheme_text` and `user` (all after the
/// colon) are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// Scheme.
    pub scheme: Scheme,
    /// Scheme as written, without the colon.
    pub scheme_text: &'a [u8],
    /// User part as written, still escaped.
    pub user: Option<&'a [u8]>,
    /// Password as written.
    pub password: Option<&'a [u8]>,
    /// Host.
    pub host: Host<'a>,
    /// Host as written, IPv6 with its brackets.
    pub host_text: &'a [u8],
    /// Port, where written.
    pub port: Option<u16>,
    /// URI parameters.
    pub params: Params<'a>,
    /// What follows `?`.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Parses a whole URI: no white space, no angle brackets around it.
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, Fault> {
        parse(text).ok_or(Fault::Uri)
    }
    /// `sip` or `sips`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }
    /// The `transport` parameter.
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.param(b"transport").flatten()
    }
    /// Value of a URI parameter as written: `None` where absent, `Some(None)` where it has no `=`.
    /// Unlike [`Params::get`] it knows a name in its escaped form too (`%6C%72` is `lr`).
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        let same = |text: &[u8]| {
            text.eq_ignore_ascii_case(name)
                || (memchr::memchr(b'%', text).is_some() && compare::same_folded(text, name))
        };
        self.params.all().find(|param| same(param.name)).map(|param| param.value)
    }
    /// Has the `lr` parameter (RFC 3261 19.1.1), with or without a value.
    pub fn is_loose(&self) -> bool {
        self.param(b"lr").is_some()
    }
}

fn parse(text: &[u8]) -> Option<Uri<'_>> {
    // Nearly all are these, and need no search for the colon.
    if let Some((scheme_text @ [b's' | b'S', b'i' | b'I', b'p' | b'P'], [b':', rest @ ..])) =
        text.split_first_chunk::<3>()
    {
        return parse_sip(Scheme::Sip, scheme_text, rest);
    }
    let (scheme_text, rest) = chars::split_once(text, b':')?;
    match scheme(scheme_text)? {
        scheme @ (Scheme::Sip | Scheme::Sips) => parse_sip(scheme, scheme_text, rest),
        scheme => (!rest.is_empty() && chars::all_or_escaped(rest, chars::OPAQUE)).then_some(Uri {
            scheme,
            scheme_text,
            user: Some(rest),
            password: None,
            host: Host::Name(&[]),
            host_text: &[],
            port: None,
            params: Params::default(),
            headers: None,
        }),
    }
}

#[inline]
fn parse_sip<'a>(scheme: Scheme, scheme_text: &'a [u8], rest: &'a [u8]) -> Option<Uri<'a>> {
    // No part but the user info may hold an `@`, and none at all may hold two.
    let ((user, password), rest) = match chars::split_once(rest, b'@') {
        Some((text, rest)) => (user_info(text)?, rest),
        None => ((None, None), rest),
    };
    let host_len = match rest.first() {
        Some(b'[') => memchr::memchr(b']', rest)? + 1,
        _ => chars::span_of(rest, chars::HOST).0.len(),
    };
    let (host_text, mut rest) = rest.split_at_checked(host_len)?;
    let mut port = None;
    if let Some(after) = rest.strip_prefix(b":") {
        let digits = after.iter().position(|b| !b.is_ascii_digit()).unwrap_or(after.len());
        let (digits, after) = after.split_at_checked(digits)?;
        port = Some(host::port(digits)?);
        rest = after;
    }
    let mut params = Params::default();
    if let Some(after) = rest.strip_prefix(b";") {
        let end = memchr::memchr(b'?', after).unwrap_or(after.len());
        let (text, headers) = after.split_at_checked(end)?;
        params = Params::parse_uri(text)?;
        rest = headers;
    }
    let headers = match rest.split_first() {
        None => None,
        Some((b'?', headers)) if headers.split(|b| *b == b'&').all(is_header) => Some(headers),
        Some(_) => return None,
    };
    // The host last: moving one about costs more than reading it.
    let host = host::parse(host_text)?;
    Some(Uri { scheme, scheme_text, user, password, host, host_text, port, params, headers })
}

/// User, and password where there is a colon.
type UserInfo<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

#[inline]
fn user_info(text: &[u8]) -> Option<UserInfo<'_>> {
    let (user, rest) = chars::span_or_escaped(text, chars::USER);
    if user.is_empty() {
        return None;
    }
    match rest.split_first() {
        None => Some((Some(user), None)),
        Some((b':', password)) if chars::all_or_escaped(password, chars::PASSWORD) => {
            Some((Some(user), Some(password)))
        }
        Some(_) => None,
    }
}

fn scheme(text: &[u8]) -> Option<Scheme> {
    if text.eq_ignore_ascii_case(b"sip") {
        return Some(Scheme::Sip);
    }
    if text.eq_ignore_ascii_case(b"sips") {
        return Some(Scheme::Sips);
    }
    if text.eq_ignore_ascii_case(b"tel") {
        return Some(Scheme::Tel);
    }
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    (text.first()?.is_ascii_alphabetic() && text.iter().all(good)).then_some(Scheme::Other)
}

/// `hname "=" hvalue`; the value may be empty.
fn is_header(text: &[u8]) -> bool {
    chars::split_once(text, b'=').is_some_and(|(name, value)| {
        !name.is_empty()
            && chars::all_or_escaped(name, chars::HEADER)
            && chars::all_or_escaped(value, chars::HEADER)
    })
}

#[cfg(test)]
mod tests;
