//! `name-addr / addr-spec` with header parameters: From, To, Contact, Route, Record-Route, Path.

use super::params::unquote;
use super::{Param, Params};
use crate::{Fault, Uri, chars};

/// A display name, a URI and parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// Display name as written, quotes included.
    pub display: Option<&'a [u8]>,
    /// The URI as written, without the angle brackets.
    pub uri: &'a [u8],
    /// Was the URI in `<...>`? (Route and Path demand it, R-P2.)
    pub bracketed: bool,
    /// Header parameters.
    pub params: Params<'a>,
    /// Value of the `tag` parameter.
    tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    /// Parses one value. Without `<...>`, what follows the first `;` are header parameters
    /// (RFC 3261 20), and `?` or `,` in the URI is an error. The URI itself is parsed by
    /// [`NameAddr::parse_uri`] only; a lone `*` is an error here.
    pub fn parse(value: &'a [u8]) -> Result<NameAddr<'a>, Fault> {
        parse(chars::trim_lws(value)).ok_or(Fault::Uri)
    }
    /// The `tag` parameter of From and To; an empty one counts as none.
    pub fn tag(self) -> Option<&'a [u8]> {
        self.tag.filter(|tag| !tag.is_empty())
    }
    /// The URI taken apart.
    pub fn parse_uri(self) -> Result<Uri<'a>, Fault> {
        Uri::parse(self.uri)
    }
}

fn parse(text: &[u8]) -> Option<NameAddr<'_>> {
    let (display, rest) = match text.first()? {
        b'<' => (None, text),
        b'"' => {
            let (quoted, rest) = text.split_at_checked(chars::quoted_len(text)?)?;
            (Some(quoted), chars::skip_lws(rest))
        }
        _ => match memchr::memchr3(b'<', b';', b'"', text) {
            Some(at) if text.get(at) == Some(&b'<') => {
                let (name, rest) = text.split_at_checked(at)?;
                let name = chars::trim_lws(name);
                // *(token LWS). Octets above ASCII need quotes as well, but devices forget them
                // and they cannot be mistaken for anything else.
                let good = |b: &u8| chars::is(*b, chars::TOKEN) || chars::is_lws(*b) || *b > 0x7f;
                name.iter().all(good).then_some(())?;
                (Some(name), rest)
            }
            _ => return addr_spec(text),
        },
    };
    let inner = rest.strip_prefix(b"<")?;
    let (uri, after) = chars::split_around(inner, chars::find_near(inner, b'>')?)?;
    let after = chars::skip_lws(after);
    let (params, tag) = match after.split_first() {
        None => (Params::default(), None),
        Some((b';', params)) => match only_tag(params) {
            Some((params, tag)) => (params, Some(tag)),
            None => parse_params(params)?,
        },
        Some(_) => return None,
    };
    Some(NameAddr { display, uri, bracketed: true, params, tag })
}

fn addr_spec(text: &[u8]) -> Option<NameAddr<'_>> {
    let (uri, (params, tag)) = match chars::split_once(text, b';') {
        Some((uri, params)) => (chars::trim_lws(uri), parse_params(params)?),
        None => (text, (Params::default(), None)),
    };
    if uri == b"*" || memchr::memchr2(b'?', b',', uri).is_some() {
        return None;
    }
    Some(NameAddr { display: None, uri, bracketed: false, params, tag })
}

/// A `tag` with a value and nothing else, as nearly every From has it.
#[inline]
fn only_tag(text: &[u8]) -> Option<(Params<'_>, &[u8])> {
    let value = text.strip_prefix(b"tag=")?;
    let (tag, rest) = chars::span_of(value, chars::VALUE);
    (rest.is_empty() && !tag.is_empty()).then_some((Params(text), tag))
}

/// The parameters, and the value of `tag`. Refuses a second `tag`: with two, two readers may see
/// two dialogs (RFC 3261 7.3.1 allows a parameter once).
fn parse_params(text: &[u8]) -> Option<(Params<'_>, Option<&[u8]>)> {
    let (mut tags, mut tag) = (0u32, None);
    let params = Params::parse(text, |Param { name, value, .. }| {
        if name.len() == 3 && name.eq_ignore_ascii_case(b"tag") {
            tags = tags.saturating_add(1);
            tag = value.map(unquote);
        }
    })?;
    (tags < 2).then_some((params, tag))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tag_alone_is_read_as_among_others(text in "tag=[ab;=\", \\\\<\u{e9}]{0,8}|tag[a= ]{0,4}") {
            if let Some((params, tag)) = only_tag(text.as_bytes()) {
                prop_assert_eq!(parse_params(text.as_bytes()), Some((params, Some(tag))));
            }
        }
    }

    #[test]
    fn all_forms_are_taken_apart() {
        let of = |text: &'static str| NameAddr::parse(text.as_bytes()).expect(text);
        let a = of("\"a \\\" <b>\" <sip:x@y;p=1>;tag=t");
        assert_eq!(a.display, Some(&b"\"a \\\" <b>\""[..]));
        assert_eq!((a.uri, a.tag(), a.bracketed), (&b"sip:x@y;p=1"[..], Some(&b"t"[..]), true));
        let b = of("caller one<sip:x@y>");
        assert_eq!((b.display, b.uri), (Some(&b"caller one"[..]), &b"sip:x@y"[..]));
        let c = of("sip:x@y ; user=phone;tag=");
        assert_eq!((c.uri, c.bracketed, c.tag()), (&b"sip:x@y"[..], false, None));
        assert!(c.params.has(b"user"));
        assert_eq!(of("<sip:x@y>\r\n ; q = 0.33").params.get(b"q"), Some(Some(&b"0.33"[..])));
        assert_eq!(of("sip:a@b;x=\"<\"").uri, b"sip:a@b");
    }

    #[test]
    fn broken_forms_are_refused() {
        for bad in [
            "",
            "*",
            "*;expires=0",
            "\"open <sip:a@b>",
            "\"x\" sip:a@b",
            "<sip:a@b",
            "<sip:a@b>x",
            "Bell, A <sip:a@b>",
            "sip:a@b?R=x",
            "sip:a,b@c",
            "<sip:a@b>;;",
            "<sip:a@b>;tag=1;Tag=2",
            "<sip:a@b>, <sip:c@d>",
            "a\0b <sip:a@b>",
        ] {
            assert_eq!(NameAddr::parse(bad.as_bytes()), Err(Fault::Uri), "{bad}");
        }
    }
}
