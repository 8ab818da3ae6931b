//! The web of the router under test: responses a test has set, and the requests that asked for them.

use std::collections::HashMap;
use std::sync::Arc;

use viaduct_engine::Fact;
use viaduct_engine::http::{HttpFault, HttpMethod, HttpRequest, HttpResult};

/// Requests kept until somebody takes them.
const KEPT: usize = 1000;

#[derive(Default)]
pub(super) struct VirtualWeb {
    answers: HashMap<(HttpMethod, String), HttpResult>,
    requests: Vec<Arc<HttpRequest>>,
}

impl VirtualWeb {
    /// Requests with that method and URL get this from now on.
    pub(super) fn set(&mut self, method: HttpMethod, url: &str, answer: HttpResult) {
        self.answers.insert((method, url.to_owned()), answer);
    }

    /// The answer to a question.
    pub(super) fn answer(&mut self, request: Arc<HttpRequest>) -> Fact {
        let known = self.answers.get(&(request.method, request.url())).cloned();
        if self.requests.len() < KEPT {
            self.requests.push(Arc::clone(&request));
        }
        Fact::Http(request, known.unwrap_or(Err(HttpFault::Unreachable)))
    }

    /// What was asked since the last call.
    pub(super) fn take_requests(&mut self) -> Vec<Arc<HttpRequest>> {
        std::mem::take(&mut self.requests)
    }
}
