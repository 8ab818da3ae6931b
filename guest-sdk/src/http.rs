//! HTTP requests to hosts that the manifest grants.
//!
//! ```no_run
//! # use viaduct_guest::{http, prelude::*};
//! # fn lookup() -> Verdict {
//! // policy.toml: [grants] http = ["https://numbers.example.com"]
//! match http::get("https://numbers.example.com/v1/4711").timeout_ms(500).send() {
//!     Ok(answer) if answer.status == 200 => {
//!         let _ = routing::add_target(&answer.text(), 1000);
//!         relay()
//!     }
//!     Ok(_) => reply(404, ""),
//!     Err(error) => {
//!         log::warn!("number portability: {}", error.name());
//!         reply(503, "")
//!     }
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! The code reads as if it waited. In truth the run ends where the response is not there yet, the
//! router sends the request beside its workers, and the policy runs again from the top with the
//! response: so do nothing before it that must not happen in two runs (staged effects do not). Phase
//! on-request only; four requests at most; no redirects are followed.

use crate::bindings::viaduct::policy::http as host;

pub use host::{HttpError, Method};

/// A request that is being put together.
#[derive(Clone, Debug)]
pub struct HttpRequest(host::Request);

/// A response, whatever its status.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// A request to read something.
pub fn get(url: &str) -> HttpRequest {
    request(Method::Get, url)
}

/// A request that does something.
pub fn post(url: &str, body: &[u8]) -> HttpRequest {
    let mut request = request(Method::Post, url);
    request.0.body = body.to_vec();
    request
}

/// A request with any method.
pub fn request(method: Method, url: &str) -> HttpRequest {
    HttpRequest(host::Request {
        method,
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: None,
    })
}

impl HttpRequest {
    /// Adds a header. Host, Content-Length and what speaks of the connection are the router's.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> HttpRequest {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.0.headers.push(host::Header { name, value });
        self
    }

    /// A body; at most 65,536 bytes.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> HttpRequest {
        self.0.body = body.to_vec();
        self
    }

    /// How long to wait for the whole response; at most, and else, as the router is configured.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u32) -> HttpRequest {
        self.0.timeout_ms = Some(timeout_ms);
        self
    }

    /// The response.
    ///
    /// # Errors
    /// [`HttpError`]: a refusal, or nothing that came back in time.
    pub fn send(self) -> Result<HttpResponse, HttpError> {
        let response = host::send(&self.0)?;
        let pair = |header: host::Header| (header.name, header.value);
        Ok(HttpResponse {
            status: response.status,
            headers: response.headers.into_iter().map(pair).collect(),
            body: response.body,
        })
    }
}

impl HttpResponse {
    /// The body as text; bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Value of the first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_named = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(is_named)
            .map(|(_, value)| value.as_str())
    }
}
