//! HTTP requests. Each needs a grant for its scheme, host and port.

use std::sync::Arc;

use viaduct_engine::http::{
    HttpFault, HttpHeaders, HttpMethod, HttpRequest, HttpResponse, MOST_BODY_BYTES,
};

use crate::bindings::policy::viaduct::policy::http::{
    Header, Host, HttpError, Method, Request, Response,
};
use crate::guest::{Guest, Refused};
use crate::origin;

impl Host for Guest {
    fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, HttpError>> {
        let method = method(request.method);
        self.call("http.send", &[method.name(), &request.url])?;
        if request.body.len() > MOST_BODY_BYTES {
            return Ok(Err(HttpError::TooLarge));
        }
        let Some((origin, path)) = origin::split(&request.url) else {
            return Ok(Err(HttpError::InvalidSyntax));
        };
        if !self.manifest.grants.allows_origin(&origin) {
            self.note_refusal("http.send", "not-granted");
            return Ok(Err(HttpError::NotGranted));
        }
        let request = HttpRequest {
            method,
            origin,
            path: path.into(),
            headers: headers(request.headers),
            body: request.body.into(),
            timeout_ms: request.timeout_ms,
        };
        match self.current()?.http(request) {
            Ok(response) => Ok(Ok(lower(&response))),
            Err(fault) => Ok(Err(http_error(fault)?)),
        }
    }
}

fn method(method: Method) -> HttpMethod {
    match method {
        Method::Get => HttpMethod::Get,
        Method::Head => HttpMethod::Head,
        Method::Post => HttpMethod::Post,
        Method::Put => HttpMethod::Put,
        Method::Patch => HttpMethod::Patch,
        Method::Delete => HttpMethod::Delete,
    }
}

fn headers(headers: Vec<Header>) -> HttpHeaders {
    headers.into_iter().map(|header| (header.name.into(), header.value.into())).collect()
}

fn lower(response: &Arc<HttpResponse>) -> Response {
    let header = |(name, value): &(Box<str>, Box<str>)| Header {
        name: name.to_string(),
        value: value.to_string(),
    };
    Response {
        status: response.status,
        headers: response.headers.iter().map(header).collect(),
        body: response.body.to_vec(),
    }
}

/// What the guest learns; a question stops it.
fn http_error(fault: HttpFault) -> Result<HttpError, Refused> {
    match fault {
        HttpFault::Syntax => Ok(HttpError::InvalidSyntax),
        HttpFault::Forbidden => Ok(HttpError::Forbidden),
        HttpFault::TooLarge => Ok(HttpError::TooLarge),
        HttpFault::TooMany => Ok(HttpError::TooMany),
        HttpFault::WrongPhase => Ok(HttpError::WrongPhase),
        HttpFault::Timeout => Ok(HttpError::Timeout),
        HttpFault::Unreachable => Ok(HttpError::Unreachable),
        HttpFault::Busy => Ok(HttpError::Busy),
        HttpFault::Ask => Err(Refused::Asked),
    }
}
