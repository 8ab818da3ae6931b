//! HTTP responses in a recorded case.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use viaduct_engine::http::{HttpFault, HttpMethod, HttpResponse};
use viaduct_engine::run::HttpWitness;

use super::case::{Bytes, CaseError};

/// What an HTTP request got. Of the request the record has its method, its URL and a digest; its
/// headers and its body, which may hold keys, it has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpFact {
    /// `GET`
    pub method: String,
    /// URL.
    pub url: String,
    /// Tells requests with other headers or another body apart; without it any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Status of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Its headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Its body.
    #[serde(default)]
    pub body: Bytes,
    /// Why there was none: `timeout`, `unreachable`, `too-large`, `busy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl HttpFact {
    pub(super) fn new(witness: &HttpWitness) -> HttpFact {
        let mut fact = HttpFact {
            method: witness.method.name().to_owned(),
            url: witness.url.to_string(),
            digest: witness.digest.as_deref().map(str::to_owned),
            status: None,
            headers: Vec::new(),
            body: Bytes::default(),
            fault: None,
        };
        match &witness.result {
            Ok(response) => {
                fact.status = Some(response.status);
                let text = |(n, v): &(Box<str>, Box<str>)| (n.to_string(), v.to_string());
                fact.headers = response.headers.iter().map(text).collect();
                fact.body = Bytes::from(&*response.body);
            }
            Err(fault) => fact.fault = Some(fault.to_string()),
        }
        fact
    }

    pub(super) fn witness(&self) -> Result<HttpWitness, CaseError> {
        let bad = |text: &str, what| CaseError::Part(text.to_owned(), what);
        let method = HttpMethod::from_name(&self.method);
        let result = match (self.status, self.fault.as_deref()) {
            (Some(status), _) => {
                let text = |(n, v): &(String, String)| ((&**n).into(), (&**v).into());
                let headers = self.headers.iter().map(text).collect();
                Ok(Arc::new(HttpResponse { status, headers, body: self.body.bytes()?.into() }))
            }
            (None, fault) => {
                let fault = fault.unwrap_or_default();
                Err(HttpFault::from_name(fault).ok_or_else(|| bad(fault, "fault of HTTP"))?)
            }
        };
        Ok(HttpWitness {
            method: method.ok_or_else(|| bad(&self.method, "method of HTTP"))?,
            url: (&*self.url).into(),
            digest: self.digest.as_deref().map(Box::from),
            result,
        })
    }
}
