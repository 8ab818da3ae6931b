//! `;name=value` parameters of headers and URIs.

use crate::chars;

/// Parameters as written, without the leading semicolon of the first. Names compare without case.
///
/// Parameters of a URI may be escaped: ask [`crate::Uri::param`] for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(pub &'a [u8]);

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// From the name to the end of the value, without the semicolon: what to replace.
    pub text: &'a [u8],
    /// The name.
    pub name: &'a [u8],
    /// The value as written, quotes included; `None` without `=`.
    pub value: Option<&'a [u8]>,
}

impl<'a> Params<'a> {
    /// Value of a parameter: `None` where absent, `Some(None)` where it has no `=`. A quoted
    /// string's quotes are stripped, its escapes are kept. Of several, the first.
    pub fn get(self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.find(name).map(|param| param.value.map(unquote))
    }
    /// Is the parameter there, with or without a value?
    pub fn has(self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }
    /// Name and value of each, in order; quotes of values are stripped.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.all().map(|param| (param.name, param.value.map(unquote)))
    }
    /// The first parameter of that name.
    pub fn find(self, name: &[u8]) -> Option<Param<'a>> {
        self.all().find(|param| param.name.eq_ignore_ascii_case(name))
    }
    /// Each parameter as written, in order.
    pub fn all(self) -> impl Iterator<Item = Param<'a>> {
        Pieces { rest: Some(self.0) }.filter(|param| !param.name.is_empty())
    }

    /// What follows a header's first semicolon: one or more `generic-param`, where an empty value
    /// is let pass. Calls `seen` with each, so that a header keeps those it is asked for again and
    /// again: looking one up costs another pass.
    #[inline]
    pub(crate) fn parse(text: &'a [u8], mut seen: impl FnMut(Param<'a>)) -> Option<Params<'a>> {
        let mut rest = text;
        loop {
            let (param, after) = match plain(rest) {
                Some(found) => found,
                None => general(rest)?,
            };
            seen(param);
            match after.split_first() {
                None => return Some(Params(chars::trim_lws(text))),
                Some((b';', more)) => rest = more,
                Some(_) => return None,
            }
        }
    }

    /// What follows a URI's first semicolon: one or more `uri-parameter`.
    pub(crate) fn parse_uri(text: &'a [u8]) -> Option<Params<'a>> {
        let good = |part: &[u8]| chars::all_or_escaped(part, chars::PARAM);
        text.split(|b| *b == b';')
            .all(|param| match chars::split_once(param, b'=') {
                Some((name, value)) => !name.is_empty() && good(name) && good(value),
                None => !param.is_empty() && good(param),
            })
            .then_some(Params(text))
    }
}

/// The `generic-param` a text begins with, as nearly all are written: without blanks and quotes, and
/// with a value behind `=`. Gives what follows, which is nothing or begins with a semicolon.
#[inline]
fn plain(text: &[u8]) -> Option<(Param<'_>, &[u8])> {
    let (name, mut after) = chars::span_of(text, chars::TOKEN);
    let mut value = None;
    if let Some(behind) = after.strip_prefix(b"=") {
        let (found, tail) = chars::span_of(behind, chars::VALUE);
        if found.is_empty() {
            return None;
        }
        value = Some(found);
        after = tail;
    }
    if name.is_empty() || !matches!(after, [] | [b';', ..]) {
        return None;
    }
    let written = chars::split(text, text.len() - after.len()).0;
    Some((Param { text: written, name, value }, after))
}

/// The same however it is written. White space behind it is not among what follows.
#[inline(never)] // rare, and the usual needs the registers
fn general(text: &[u8]) -> Option<(Param<'_>, &[u8])> {
    let begun = chars::skip_lws(text);
    let (name, mut after) = chars::span_of(begun, chars::TOKEN);
    if name.is_empty() {
        return None;
    }
    let mut value = None;
    let mut rest = chars::skip_lws(after);
    if let Some(behind) = rest.strip_prefix(b"=") {
        let text = chars::skip_lws(behind);
        let (found, tail) = match text.first() {
            Some(b'"') => text.split_at_checked(chars::quoted_len(text)?)?,
            _ => chars::span_of(text, chars::VALUE),
        };
        value = Some(found);
        after = if found.is_empty() { behind } else { tail };
        rest = chars::skip_lws(tail);
    }
    let written = chars::split(begun, begun.len() - after.len()).0;
    Some((Param { text: written, name, value }, rest))
}

/// A quoted string without its quotes.
#[inline]
pub(super) fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// Everything between semicolons, empty pieces included.
struct Pieces<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Param<'a>;

    #[inline]
    fn next(&mut self) -> Option<Param<'a>> {
        let rest = self.rest?;
        let piece = match chars::find_unquoted(rest, b';') {
            Some(at) => {
                let (piece, rest) = chars::split_around(rest, at)?;
                self.rest = Some(rest);
                piece
            }
            None => {
                self.rest = None;
                rest
            }
        };
        let text = chars::trim_lws(piece);
        Some(match chars::split_once(text, b'=') {
            Some((name, value)) => {
                Param { text, name: chars::trim_lws(name), value: Some(chars::trim_lws(value)) }
            }
            None => Param { text, name: text, value: None },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_plain_is_read_as_any_other(
            text in "[ab;= \"\\\\,<%.\r\n\u{e9}]{0,12}|[ab]{1,5}(=[ab]{0,6})?( ?;[ab]{0,3})?",
        ) {
            if let Some(found) = plain(text.as_bytes()) {
                prop_assert_eq!(general(text.as_bytes()), Some(found));
            }
        }
    }

    #[test]
    fn quoted_semicolons_do_not_separate() {
        let params = Params(br#" q = 0.5 ;x="a;tag=b" ; TAG = c;flag"#);
        assert_eq!(params.get(b"tag"), Some(Some(&b"c"[..])));
        assert_eq!(params.get(b"x"), Some(Some(&b"a;tag=b"[..])));
        assert_eq!(params.get(b"flag"), Some(None));
        assert_eq!(params.get(b"q"), Some(Some(&b"0.5"[..])));
        assert_eq!(params.get(b"lag"), None);
        assert_eq!(params.iter().count(), 4);
    }

    #[test]
    fn what_is_seen_while_parsing_is_what_is_found_later() {
        let text = br#" q = 0.5 ;x="a;tag=b" ; TAG = c;empty= ;flag "#;
        let mut seen = Vec::new();
        let params = Params::parse(text, |param| seen.push(param)).unwrap();
        assert_eq!(seen, params.all().collect::<Vec<_>>());
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn stray_separators_are_refused() {
        for bad in ["", ";", "a;", ";a", "a;;b", "=b", "a=b c", "a=\"b", "a=\"b\"c", "a b", "a=<b>"]
        {
            assert!(Params::parse(bad.as_bytes(), |_| ()).is_none(), "{bad}");
        }
        for good in ["a", "a=b", "a=", "a = \"b;c\" ; d", "received=[2001:db8::1]"] {
            assert!(Params::parse(good.as_bytes(), |_| ()).is_some(), "{good}");
        }
    }
}
