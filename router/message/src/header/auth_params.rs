//! `scheme name=value, ...` of Authorization, Proxy-Authorization and the challenges (RFC 3261 25.1
//! `credentials` and `challenge`, RFC 7616 3.3 and 3.4).

use crate::chars;

/// More parameters than this are no credentials of anybody.
const MOST: usize = 32;

/// The whole value of such a header, its grammar checked: every parameter has a name, an `=` and a
/// value, and no name comes twice (what readers make of a second one differs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthParams<'a> {
    /// `Digest`, as written.
    pub scheme: &'a [u8],
    list: &'a [u8],
}

impl<'a> AuthParams<'a> {
    /// Reads one header value. `None` where it is anything else, has more than 32 parameters, or
    /// none.
    pub fn parse(value: &'a [u8]) -> Option<AuthParams<'a>> {
        let (scheme, rest) = chars::span_of(chars::trim_lws(value), chars::TOKEN);
        let list = chars::skip_lws(rest);
        if scheme.is_empty() || list.len() == rest.len() {
            return None;
        }
        let mut names: [&[u8]; MOST] = [&[]; MOST];
        let mut rest = list;
        for count in 0..=MOST {
            let (name, _, after) = one(rest)?;
            let (before, free) = names.split_at_mut_checked(count)?;
            if before.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return None;
            }
            *free.first_mut()? = name;
            rest = match after.split_first() {
                None => return Some(AuthParams { scheme, list }),
                Some((b',', more)) => more,
                Some(_) => return None,
            };
        }
        None
    }

    /// Is it of that scheme? Without case.
    pub fn is(self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme.as_bytes())
    }

    /// A parameter's value by its name, without case. The quotes of a quoted string are stripped,
    /// its escapes are kept: RFC 7616 hashes what stands between the quotes.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Name and value of each, in order; quotes are stripped.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = Some(self.list);
        std::iter::from_fn(move || {
            let (name, value, after) = one(rest?)?;
            rest = after.strip_prefix(b",");
            Some((name, value))
        })
    }
}

/// One parameter and what follows it.
fn one(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = chars::span_of(chars::skip_lws(text), chars::TOKEN);
    let rest = chars::skip_lws(rest).strip_prefix(b"=")?;
    let rest = chars::skip_lws(rest);
    if name.is_empty() {
        return None;
    }
    let (value, after) = match rest.first()? {
        b'"' => {
            let (quoted, after) = rest.split_at_checked(chars::quoted_len(rest)?)?;
            (quoted.get(1..quoted.len().checked_sub(1)?)?, after)
        }
        // By the grammar a token; devices leave the quotes of a URI or of base64 away.
        _ => {
            let end = rest.iter().position(|b| *b == b',' || *b == b'"' || chars::is_lws(*b));
            let (value, after) = chars::split(rest, end.unwrap_or(rest.len()));
            (value, after)
        }
    };
    let good = !rest.starts_with(b",") && value.iter().all(|b| *b >= 0x20 && *b != 0x7f);
    good.then(|| (name, value, chars::skip_lws(after)))
}

/// Removes the backslashes of a quoted string's inside (RFC 3261 25.1 `quoted-pair`).
pub fn unescape_quoted(text: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return text.into();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            byte => out.push(*byte),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3261_20_44_a_challenge_and_its_answer_are_read() {
        let value = b"Digest username=\"Alice, \\\"A\\\"\", realm = \"atlanta.com\" ,\r\n \
                      nonce=\"84a4cc6f\", qop=auth,URI=\"sip:a;b@c\",nc=00000001";
        let read = AuthParams::parse(value).unwrap();
        assert!(read.is("digest") && !read.is("basic"));
        assert_eq!(read.get("realm"), Some(&b"atlanta.com"[..]));
        assert_eq!(read.get("uri"), Some(&b"sip:a;b@c"[..]));
        assert_eq!(read.get("QOP"), Some(&b"auth"[..]));
        assert_eq!(read.get("opaque"), None);
        assert_eq!(read.iter().count(), 6);
        let name = read.get("username").unwrap();
        assert_eq!(*unescape_quoted(name), *b"Alice, \"A\"");
    }

    #[test]
    fn cve_2018_8828_and_cve_2023_28098_odd_parameters_are_refused_not_crashed_on() {
        for bad in [
            "",
            "Digest",
            "Digest ",
            "Digest=\"x\"",
            "Digest a",
            "Digest =\"x\"",
            "Digest =",
            "Digest a=",
            "Digest a=,b=c",
            "Digest a=b,",
            "Digest ,a=b",
            "Digest a=b,,c=d",
            "Digest a=\"open",
            "Digest a=\"open\\",
            "Digest a=\"b\"c",
            "Digest a=b c=d",
            "Digest a=b\"c\"",
            "Digest username=\"a\",username=\"b\"",
            "Digest nonce=a,NONCE=b",
            "Digest a=\"x\0y\"",
            "Digest a=\x01",
        ] {
            assert_eq!(AuthParams::parse(bad.as_bytes()), None, "{bad:?}");
        }
        let many = |n: usize| {
            let list: Vec<String> = (0..n).map(|i| format!("p{i}=v")).collect();
            format!("Digest {}", list.join(","))
        };
        assert!(AuthParams::parse(many(32).as_bytes()).is_some());
        assert_eq!(AuthParams::parse(many(33).as_bytes()), None);
    }
}
