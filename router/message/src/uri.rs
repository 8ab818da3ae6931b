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
        // Nearly all are these, and need no search for the colon.
        if let Some(rest) = text.strip_prefix(b"sip:") {
            return parse_sip(Scheme::Sip, chars::split(text, 3).0, rest);
        }
        parse_other(text)
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

fn parse_other(text: &[u8]) -> Result<Uri<'_>, Fault> {
    let (scheme_text, rest) = chars::split_once(text, b':').ok_or(Fault::Uri)?;
    match scheme(scheme_text).ok_or(Fault::Uri)? {
        scheme @ (Scheme::Sip | Scheme::Sips) => parse_sip(scheme, scheme_text, rest),
        _ if rest.is_empty() || !chars::all_or_escaped(rest, chars::OPAQUE) => Err(Fault::Uri),
        scheme => Ok(Uri {
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

fn parse_sip<'a>(scheme: Scheme, scheme_text: &'a [u8], rest: &'a [u8]) -> Result<Uri<'a>, Fault> {
    let ((user, password), (host_text, mut rest)) = user_and_host(rest).ok_or(Fault::Uri)?;
    let mut port = None;
    if let Some(after) = rest.strip_prefix(b":") {
        let (number, after) = host::leading_port(after).ok_or(Fault::Uri)?;
        port = Some(number);
        rest = after;
    }
    let mut params = Params::default();
    if let Some(after) = rest.strip_prefix(b";") {
        let end = memchr::memchr(b'?', after).unwrap_or(after.len());
        let (text, headers) = chars::split(after, end);
        params = Params::parse_uri(text).ok_or(Fault::Uri)?;
        rest = headers;
    }
    let headers = match rest.split_first() {
        None => None,
        Some((b'?', headers)) if headers.split(|b| *b == b'&').all(is_header) => Some(headers),
        Some(_) => return Err(Fault::Uri),
    };
    // The host last: moving one about costs more than reading it.
    let host = host::parse_led(host_text).ok_or(Fault::Uri)?;
    Ok(Uri { scheme, scheme_text, user, password, host, host_text, port, params, headers })
}

/// User, and password where there is a colon.
type UserInfo<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// What can be a host, and what follows it.
type Led<'a> = (&'a [u8], &'a [u8]);

/// The user info, what can be the host, and what follows it.
#[inline]
fn user_and_host(text: &[u8]) -> Option<(UserInfo<'_>, Led<'_>)> {
    // Most users are written as a host could be, so that one pass finds where either ends.
    let (word, after) = chars::span_of(text, chars::HOST);
    match after.split_first() {
        None if !word.is_empty() => Some(((None, None), (word, after))),
        Some((b'@', rest)) if !word.is_empty() => Some(((Some(word), None), host::leading(rest)?)),
        _ => {
            let (user_info, rest) = user_info(text)?;
            Some((user_info, host::leading(rest)?))
        }
    }
}

/// The user info, where there is one, and what follows it. No other part may hold an `@`, and none at
/// all may hold two.
#[inline]
fn user_info(text: &[u8]) -> Option<(UserInfo<'_>, &[u8])> {
    // Most have no escapes and no password.
    let (user, after) = chars::span_of(text, chars::USER);
    match after.split_first() {
        Some((b'@', rest)) if !user.is_empty() => return Some(((Some(user), None), rest)),
        None => return Some(((None, None), text)),
        _ => {}
    }
    let Some((text, rest)) = chars::split_once(text, b'@') else {
        return Some(((None, None), text));
    };
    let (user, password) = chars::span_or_escaped(text, chars::USER);
    if user.is_empty() {
        return None;
    }
    match password.split_first() {
        None => Some(((Some(user), None), rest)),
        Some((b':', password)) if chars::all_or_escaped(password, chars::PASSWORD) => {
            Some(((Some(user), Some(password)), rest))
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
