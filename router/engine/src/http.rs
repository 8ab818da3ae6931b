//! HTTP requests of policies, and what comes of them: values alone. Whether a host is granted says
//! the manifest; who sends them is the shell.

use std::fmt;
use std::sync::Arc;

/// HTTP requests one SIP request may cause.
pub const MOST_REQUESTS: usize = 4;
/// Longest path with query, bytes.
pub const MOST_PATH_BYTES: usize = 2048;
/// Headers of a request or of a response.
pub const MOST_HEADERS: usize = 32;
/// Bytes of all their names and values.
pub const MOST_HEADER_BYTES: usize = 8192;
/// Longest body of a request or of a response, bytes.
pub const MOST_BODY_BYTES: usize = 65_536;

/// Request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl HttpMethod {
    /// As it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Head => "HEAD",
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
        }
    }

    /// The method of that name.
    pub fn from_name(name: &str) -> Option<HttpMethod> {
        use HttpMethod::{Delete, Get, Head, Patch, Post, Put};
        [Get, Head, Post, Put, Patch, Delete].into_iter().find(|method| method.name() == name)
    }
}

/// Whom a request is sent to: what a manifest grants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpOrigin {
    /// `https`; else `http`.
    pub secure: bool,
    /// Host name in lower case, or address; IPv6 in brackets.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(out, "{scheme}://{}", self.host)?;
        if self.port == usual { Ok(()) } else { write!(out, ":{}", self.port) }
    }
}

/// Names and values, in their order.
pub type HttpHeaders = Box<[(Box<str>, Box<str>)]>;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpRequest {
    /// Method.
    pub method: HttpMethod,
    /// Whom it is sent to.
    pub origin: HttpOrigin,
    /// Path with query, which begins with `/`.
    pub path: Box<str>,
    /// Headers.
    pub headers: HttpHeaders,
    /// Body.
    pub body: Box<[u8]>,
    /// How long to wait for the whole response, milliseconds; `None`, and at most: as configured.
    pub timeout_ms: Option<u32>,
}

impl HttpRequest {
    /// The URL.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// What is wrong with it, whoever it goes to.
    pub fn fault(&self) -> Option<HttpFault> {
        if self.path.len() > MOST_PATH_BYTES
            || self.body.len() > MOST_BODY_BYTES
            || !fits(&self.headers)
        {
            return Some(HttpFault::TooLarge);
        }
        let legal = |(name, value): &(Box<str>, Box<str>)| is_token(name) && is_value(value);
        if !self.path.starts_with('/') || !self.headers.iter().all(legal) {
            return Some(HttpFault::Syntax);
        }
        let ours = |(name, _): &(Box<str>, Box<str>)| {
            FORBIDDEN.iter().any(|known| name.eq_ignore_ascii_case(known))
        };
        self.headers.iter().any(ours).then_some(HttpFault::Forbidden)
    }
}

/// What the client writes itself, or what is between it and its neighbour (RFC 9110 7.6.1).
const FORBIDDEN: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// RFC 9110 5.6.2.
fn is_token(name: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    !name.is_empty() && name.bytes().all(legal)
}

/// RFC 9110 5.5, visible ASCII alone.
fn is_value(value: &str) -> bool {
    value.bytes().all(|c| c == b'\t' || (b' '..=b'~').contains(&c))
}

/// Are there few enough headers?
pub fn fits(headers: &[(Box<str>, Box<str>)]) -> bool {
    let bytes = headers.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    headers.len() <= MOST_HEADERS && bytes.fold(0, usize::saturating_add) <= MOST_HEADER_BYTES
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HttpHeaders,
    /// Body.
    pub body: Box<[u8]>,
}

/// What came of a request.
pub type HttpResult = Result<Arc<HttpResponse>, HttpFault>;

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// The URL or a header cannot be written so.
    #[error("invalid-syntax")]
    Syntax,
    /// A header that is not the policy's to set.
    #[error("forbidden")]
    Forbidden,
    /// The request or the response is larger than may be.
    #[error("too-large")]
    TooLarge,
    /// More than [`MOST_REQUESTS`].
    #[error("too-many")]
    TooMany,
    /// The phase cannot wait.
    #[error("wrong-phase")]
    WrongPhase,
    /// Not in time.
    #[error("timeout")]
    Timeout,
    /// No connection, no certificate that is believed, or what came back is no HTTP.
    #[error("unreachable")]
    Unreachable,
    /// The router has too many requests under way.
    #[error("busy")]
    Busy,
    /// Not here yet: the run ends, and is made again with the response.
    #[error("not here yet")]
    Ask,
}

impl HttpFault {
    /// The fault of that name.
    pub fn from_name(name: &str) -> Option<HttpFault> {
        use HttpFault::{
            Busy, Forbidden, Syntax, Timeout, TooLarge, TooMany, Unreachable, WrongPhase,
        };
        [Syntax, Forbidden, TooLarge, TooMany, WrongPhase, Timeout, Unreachable, Busy]
            .into_iter()
            .find(|fault| fault.to_string() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&str, &str)], body: usize) -> HttpRequest {
        HttpRequest {
            method: HttpMethod::Post,
            origin: HttpOrigin { secure: true, host: "api.example.com".into(), port: 443 },
            path: path.into(),
            headers: headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            body: vec![0; body].into(),
            timeout_ms: None,
        }
    }

    #[test]
    fn a_url_names_the_port_where_it_is_not_the_usual_one() {
        let mut request = request("/a?b=c", &[], 0);
        assert_eq!(request.url(), "https://api.example.com/a?b=c");
        request.origin.secure = false;
        assert_eq!(request.url(), "http://api.example.com:443/a?b=c");
        request.origin.port = 80;
        assert_eq!(request.url(), "http://api.example.com/a?b=c");
    }

    #[test]
    fn a_request_keeps_to_its_sizes() {
        let long = format!("/{}", "a".repeat(MOST_PATH_BYTES));
        let many = [("a", "b"); MOST_HEADERS + 1];
        let wide = "v".repeat(MOST_HEADER_BYTES);
        assert_eq!(request("/", &[], MOST_BODY_BYTES).fault(), None);
        for (what, request) in [
            ("path", request(&long, &[], 0)),
            ("headers", request("/", &many, 0)),
            ("header", request("/", &[("a", &wide)], 0)),
            ("body", request("/", &[], MOST_BODY_BYTES + 1)),
        ] {
            assert_eq!(request.fault(), Some(HttpFault::TooLarge), "{what}");
        }
    }

    #[test]
    fn a_header_adds_no_line_and_none_of_the_clients_own() {
        assert_eq!(request("/", &[("Authorization", "Bearer x"), ("x", "")], 0).fault(), None);
        for (name, value) in [("a", "b\r\nc: d"), ("a", "b\0"), ("a b", "c"), ("", "c"), ("é", "")]
        {
            let fault = request("/", &[(name, value)], 0).fault();
            assert_eq!(fault, Some(HttpFault::Syntax), "{name:?} {value:?}");
        }
        for name in ["Host", "content-length", "TRANSFER-ENCODING", "Connection", "Expect"] {
            assert_eq!(
                request("/", &[(name, "x")], 0).fault(),
                Some(HttpFault::Forbidden),
                "{name}"
            );
        }
        assert_eq!(request("a", &[], 0).fault(), Some(HttpFault::Syntax));
    }

    #[test]
    fn faults_and_methods_are_found_by_their_names() {
        for fault in [HttpFault::Syntax, HttpFault::Timeout, HttpFault::Busy] {
            assert_eq!(HttpFault::from_name(&fault.to_string()), Some(fault));
        }
        assert_eq!(HttpFault::from_name("not here yet"), None);
        assert_eq!(HttpMethod::from_name("PATCH"), Some(HttpMethod::Patch));
        assert_eq!(HttpMethod::from_name("get"), None);
    }
}
