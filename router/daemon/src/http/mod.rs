//! HTTP requests of policies: sent beside the workers, each within its time and size, and answered by
//! mail. A request that fails is an answer too: what that means is the policy's to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::crypto::ring;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use viaduct_engine::http::{HttpFault, HttpHeaders, HttpRequest, HttpResponse, HttpResult, fits};
use viaduct_engine::{Fact, Token};
use viaduct_location::tls_roots;

use crate::config::HttpConfig;
use crate::worker::mail::{Address, Mail};

/// Connections kept open to one host, and for how long.
const IDLE_CONNECTIONS: usize = 16;
const IDLE: Duration = Duration::from_secs(30);

/// Outcomes that are counted.
const OUTCOMES: [&str; 5] = ["ok", "timeout", "unreachable", "too-large", "busy"];

/// Sends requests; clones share connections and counts.
#[derive(Clone)]
pub(crate) struct HttpClient(Arc<Inner>);

struct Inner {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    room: Arc<Semaphore>,
    timeout: Duration,
    response_bytes: usize,
    counts: [AtomicU64; OUTCOMES.len()],
}

impl HttpClient {
    /// Reads the authorities that are believed; connects when it must.
    pub(crate) fn new(config: &HttpConfig, runtime: Handle) -> anyhow::Result<HttpClient> {
        let timeout = Duration::from_millis(config.timeout_ms);
        let roots = tls_roots(config.ca_file.as_deref());
        let roots = roots.map_err(|problem| anyhow!("http: {problem}"))?;
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("http: TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Ok(HttpClient(Arc::new(Inner {
            client,
            runtime,
            room: Arc::new(Semaphore::new(config.in_flight)),
            timeout,
            response_bytes: config.response_bytes,
            counts: Default::default(),
        })))
    }

    /// Answers a question by mail. Never blocks.
    pub(crate) fn answer(&self, whom: Address, token: Token, request: Arc<HttpRequest>) {
        let tell = move |whom: Address, request, result| {
            let result = Ok(Fact::Http(request, result));
            whom.post_surely(Mail::Answered { token, result });
        };
        let Ok(room) = Arc::clone(&self.0.room).try_acquire_owned() else {
            self.0.count(&request, &Err(HttpFault::Busy));
            return tell(whom, request, Err(HttpFault::Busy));
        };
        let inner = Arc::clone(&self.0);
        self.0.runtime.spawn(async move {
            let result = inner.fetch(&request).await;
            drop(room);
            inner.count(&request, &result);
            tell(whom, request, result);
        });
    }

    /// Requests since the start, by what came of them.
    pub(crate) fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        OUTCOMES.into_iter().zip(counts).collect()
    }
}

impl Inner {
    async fn fetch(&self, request: &HttpRequest) -> HttpResult {
        let message = message(request)?;
        let wanted = request.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        let timeout = wanted.map_or(self.timeout, |wanted| wanted.min(self.timeout));
        let whole = async {
            let response = self.client.request(message).await.map_err(|error| {
                tracing::debug!(target: "viaduct::http", url = request.url(), "{error:?}");
                HttpFault::Unreachable
            })?;
            read(response, self.response_bytes).await
        };
        tokio::time::timeout(timeout, whole).await.unwrap_or(Err(HttpFault::Timeout))
    }

    /// Counts, and tells of the 1st, 2nd, 4th ... failure of a kind: a host that is gone must not
    /// fill the disk.
    fn count(&self, request: &HttpRequest, result: &HttpResult) {
        let outcome = result.as_ref().err().map_or_else(|| "ok".to_owned(), ToString::to_string);
        let place = OUTCOMES.iter().position(|name| *name == outcome);
        let Some(count) = place.and_then(|place| self.counts.get(place)) else { return };
        let count = count.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if result.is_err() && count.is_power_of_two() {
            let to = &request.origin;
            tracing::warn!(target: "viaduct::http", %to, count, "no HTTP response: {outcome}");
        }
    }
}

/// The request as it is sent.
fn message(request: &HttpRequest) -> Result<Request<Full<Bytes>>, HttpFault> {
    let uri: Uri = request.url().parse().map_err(|_| HttpFault::Syntax)?;
    // What was granted is what is connected to, whoever reads the URL.
    let port = uri.port_u16().unwrap_or(if request.origin.secure { 443 } else { 80 });
    if uri.host() != Some(&*request.origin.host) || port != request.origin.port {
        return Err(HttpFault::Syntax);
    }
    let mut builder = Request::builder().method(request.method.name()).uri(uri);
    for (name, value) in &request.headers {
        builder = builder.header(&**name, &**value);
    }
    let body = Full::new(Bytes::copy_from_slice(&request.body));
    builder.body(body).map_err(|_| HttpFault::Syntax)
}

async fn read(response: Response<Incoming>, most: usize) -> HttpResult {
    let (head, mut rest) = response.into_parts();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into())
    };
    let headers: HttpHeaders = head.headers.iter().map(header).collect();
    if !fits(&headers) {
        return Err(HttpFault::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(frame) = rest.frame().await {
        let frame = frame.map_err(|_| HttpFault::Unreachable)?;
        let Some(data) = frame.data_ref() else { continue };
        if body.len().saturating_add(data.len()) > most {
            return Err(HttpFault::TooLarge);
        }
        body.extend_from_slice(data);
    }
    Ok(Arc::new(HttpResponse { status: head.status.as_u16(), headers, body: body.into() }))
}

#[cfg(test)]
mod tests;
