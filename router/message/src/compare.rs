//! URI comparison (RFC 3261 19.1.4).

use crate::header::Param;
use crate::{Uri, chars};

/// More parameters or headers than this on one side, and two URIs are compared byte for byte:
/// each is looked up among the others, and a peer chooses how many there are.
const MOST: usize = 64;

/// URI comparison of RFC 3261 19.1.4. URIs that do not parse are equal only byte for byte, as are
/// those with more than 64 parameters or headers. Of URIs that are neither `sip` nor `sips`, only
/// the scheme is compared without case.
pub fn equivalent(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let (Ok(a), Ok(b)) = (Uri::parse(a), Uri::parse(b)) else {
        return false;
    };
    if a.scheme != b.scheme || !a.scheme_text.eq_ignore_ascii_case(b.scheme_text) {
        return false;
    }
    if !a.is_sip() {
        return a.user == b.user;
    }
    same_option(a.user, b.user, same)
        && same_option(a.password, b.password, same)
        && a.host.same(&b.host)
        && a.port == b.port
        && same_params(&a, &b)
        && same_option(a.headers, b.headers, same_headers)
}

fn same_option(
    a: Option<&[u8]>,
    b: Option<&[u8]>,
    same: impl FnOnce(&[u8], &[u8]) -> bool,
) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn same_params(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    if a.params.all().nth(MOST).is_some() || b.params.all().nth(MOST).is_some() {
        return false;
    }
    a.params.all().all(|param| matches_in(&param, b))
        && b.params.all().all(|param| matches_in(&param, a))
}

/// Does a parameter agree with the other URI's? These five count even where one side lacks them.
fn matches_in(param: &Param<'_>, other: &Uri<'_>) -> bool {
    const ALWAYS: [&[u8]; 5] = [b"transport", b"user", b"ttl", b"method", b"maddr"];
    match other.params.all().find(|o| same_folded(o.name, param.name)) {
        Some(found) => same_option(param.value, found.value, same_folded),
        None => !ALWAYS.iter().any(|name| same_folded(name, param.name)),
    }
}

/// Each header of one side is on the other, in any order. Values are compared with case: that
/// keeps two apart which a header's own rule might call equal, never the other way round.
fn same_headers(a: &[u8], b: &[u8]) -> bool {
    let all = |text| -> usize { memchr::memchr_iter(b'&', text).count() };
    if all(a) != all(b) || all(a) >= MOST {
        return false;
    }
    let within = |a: &[u8], b: &[u8]| {
        a.split(|c| *c == b'&').all(|header| {
            let Some((name, value)) = chars::split_once(header, b'=') else {
                return false;
            };
            b.split(|c| *c == b'&')
                .filter_map(|other| chars::split_once(other, b'='))
                .any(|(n, v)| same_folded(n, name) && same(v, value))
        })
    };
    within(a, b) && within(b, a)
}

/// Equal with case, where a character and its escape are the same.
fn same(a: &[u8], b: &[u8]) -> bool {
    units(a).eq(units(b))
}

/// Equal without case, where a character and its escape are the same.
pub(crate) fn same_folded(a: &[u8], b: &[u8]) -> bool {
    let fold = |(byte, reserved): (u8, bool)| (byte.to_ascii_lowercase(), reserved);
    units(a).map(fold).eq(units(b).map(fold))
}

/// Characters with escapes decoded once. An escaped reserved character (RFC 2396 2.2) is not the
/// same as the plain one, so it carries a mark.
fn units(text: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let Some(byte) = chars::hex_pair(*high, *low)
        {
            rest = after;
            return Some((byte, b";/?:@&=+$,".contains(&byte)));
        }
        rest = tail;
        Some((*first, false))
    })
}
