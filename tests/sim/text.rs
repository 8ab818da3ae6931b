//! SIP as text: what a phone writes, and a reader of messages that shares nothing with the router's.

use std::net::SocketAddr;

/// A message taken apart at its lines.
#[derive(Clone, Debug)]
pub(crate) struct Sip {
    /// Start line.
    pub(crate) start: String,
    /// Names and values in order.
    pub(crate) headers: Vec<(String, String)>,
    /// What follows the empty line.
    pub(crate) body: String,
}

impl Sip {
    /// Reads a message, strictly: whatever a router sends must be this regular.
    pub(crate) fn read(bytes: &[u8]) -> Result<Sip, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no empty line")?;
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(format!("no colon in `{line}`"))?;
            let is_token = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
            if !is_token || value.contains(['\r', '\n', '\0']) {
                return Err(format!("a bad line `{}`", line.escape_debug()));
            }
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Sip { start, headers, body: body.to_owned() })
    }

    /// Status code; `None` for a request.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Method of a request; of a response, the one in CSeq.
    pub(crate) fn method(&self) -> &str {
        match self.status() {
            None => self.start.split(' ').next().unwrap_or_default(),
            Some(_) => self.cseq().1,
        }
    }

    /// Request-URI.
    pub(crate) fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// All values of a header, one a line.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let same = move |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.as_str())
    }

    /// The first value of a header; empty where there is none.
    pub(crate) fn one(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }

    /// Sequence number and method.
    pub(crate) fn cseq(&self) -> (u32, &str) {
        let (number, method) = self.one("CSeq").split_once(' ').unwrap_or_default();
        (number.parse().unwrap_or(0), method.trim())
    }

    /// Branch of the topmost Via.
    pub(crate) fn branch(&self) -> &str {
        param(self.one("Via"), "branch").unwrap_or_default()
    }

    /// Tag of To.
    pub(crate) fn to_tag(&self) -> &str {
        param(self.one("To"), "tag").unwrap_or_default()
    }

    /// Values of Record-Route, lists cut apart.
    pub(crate) fn record_routes(&self) -> Vec<String> {
        self.all("Record-Route").flat_map(|line| line.split(',')).map(|v| v.trim().into()).collect()
    }

    /// One line for a ladder.
    pub(crate) fn summary(&self) -> String {
        let what = match self.status() {
            Some(_) => format!("{} ({})", self.start.trim_start_matches("SIP/2.0 "), self.method()),
            None => self.start.trim_end_matches(" SIP/2.0").to_owned(),
        };
        format!("{what} cseq {} {}", self.cseq().0, self.one("Call-ID"))
    }
}

/// A parameter behind `;` in a header value.
pub(crate) fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let pieces = value.split(';').skip(1).map(str::trim);
    pieces.filter_map(|piece| piece.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
}

/// What stands in `<...>`, or all of it.
pub(crate) fn inner(value: &str) -> &str {
    let inner = value.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(value, |(uri, _)| uri)
}

/// The next hop that a URI with an address names.
pub(crate) fn address(uri: &str) -> Option<SocketAddr> {
    let rest = inner(uri).trim_start_matches("sip:");
    let rest = rest.split([';', '?', '>']).next()?;
    let host = rest.rsplit('@').next()?;
    host.parse().ok().or_else(|| Some(SocketAddr::new(host.parse().ok()?, 5060)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_phones_ask_of_a_message_is_found() {
        let sip = Sip::read(
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;rport\r\n\
              Record-Route: <sip:a;lr>, <sip:b;lr>\r\nTo: <sip:x@y>;tag=7\r\nCSeq: 4 BYE\r\n\r\nx",
        )
        .unwrap();
        assert_eq!((sip.status(), sip.method(), sip.cseq().0), (Some(200), "BYE", 4));
        assert_eq!((sip.branch(), sip.to_tag(), sip.body.as_str()), ("z9hG4bKa", "7", "x"));
        assert_eq!(sip.record_routes(), ["<sip:a;lr>", "<sip:b;lr>"]);
        assert_eq!(address("<sip:u@127.0.0.1:5070;lr>"), "127.0.0.1:5070".parse().ok());
        for bad in ["X\r\nno colon\r\n\r\n", "X\r\n a: b\r\n\r\n", "X\r\na: b\r\n"] {
            assert!(Sip::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
