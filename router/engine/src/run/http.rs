//! HTTP requests of a run.

use std::sync::Arc;

use super::Run;
use crate::hook::Phase;
use crate::http::{HttpFault, HttpRequest, HttpResponse, MOST_REQUESTS};
use crate::query::{Fact, Query};

impl Run {
    /// The response to a request. Where it is not here yet ([`HttpFault::Ask`]), the run ends and is
    /// made again with it; the same request gets the same response in all runs of a SIP request.
    pub fn http(&mut self, request: HttpRequest) -> Result<Arc<HttpResponse>, HttpFault> {
        if let Some(fault) = request.fault() {
            return Err(fault);
        }
        if self.phase != Phase::Request {
            return Err(HttpFault::WrongPhase);
        }
        if let Some(recorded) = self.recorded_http(&request) {
            return recorded;
        }
        let mut requests = 0;
        for fact in &self.facts {
            let Fact::Http(about, result) = fact else { continue };
            if **about == request {
                let (about, result) = (Arc::clone(about), result.clone());
                self.note_http(&about, &result);
                return result;
            }
            requests += 1;
        }
        if requests >= MOST_REQUESTS {
            return Err(HttpFault::TooMany);
        }
        self.asked = Some(Query::Http(Arc::new(request)));
        Err(HttpFault::Ask)
    }
}
