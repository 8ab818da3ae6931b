//! A small HTTP server that a test tells what to answer, and when; in the clear or over TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::authority::Issued;

/// What a request gets.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Status and body, at once.
    Now(u16, String),
    /// The same, when [`HttpServer::release`] has been called.
    Held(u16, String),
    /// Nothing, ever.
    Never,
}

/// A running server; a thread a connection.
#[derive(Debug)]
pub struct HttpServer {
    scheme: &'static str,
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    /// Targets that were asked for.
    asked: Vec<String>,
    /// Requests that wait.
    held: usize,
    released: bool,
}

impl HttpServer {
    /// Listens at a free port of `local`.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(
        local: SocketAddr,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start_with(local, None, answer)
    }

    /// The same over TLS, with that certificate.
    ///
    /// # Errors
    /// No port, or the files are no certificate and its key.
    pub fn start_tls(
        local: SocketAddr,
        issued: &Issued,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(&issued.certificate)?;
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&issued.key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Self::start_with(local, Some(Arc::new(config)), answer)
    }

    fn start_with(
        local: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(local)?;
        let address = listener.local_addr()?;
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let (shared, answer) = (Arc::clone(&state), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, answer, tls) = (Arc::clone(&shared), Arc::clone(&answer), tls.clone());
                // What a peer that goes away does to its thread is its own business.
                thread::spawn(move || drop(serve_one(stream, tls, &shared, &*answer)));
            }
        });
        Ok(Self { scheme, address, state })
    }

    /// `http://ADDRESS`, or `https://ADDRESS`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// What was asked for so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }

    /// Waits until so many requests are held.
    ///
    /// # Errors
    /// When they do not come.
    pub fn wait_until_held(&self, count: usize, within: Duration) -> Result<()> {
        let state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .state
            .1
            .wait_timeout_while(state, within, |state| state.held < count)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(state.held >= count, "only {} of {count} requests came", state.held);
        Ok(())
    }

    /// Answers all that is held, and what comes from now on.
    pub fn release(&self) {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).released = true;
        self.state.1.notify_all();
    }
}

fn serve_one(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    shared: &(Mutex<State>, Condvar),
    answer: &(dyn Fn(&str) -> Answer + Send + Sync),
) -> Result<()> {
    match tls {
        None => serve(stream, shared, answer),
        Some(config) => {
            let tls = ServerConnection::new(config)?;
            serve(StreamOwned::new(tls, stream), shared, answer)
        }
    }
}

fn serve(
    mut stream: impl Read + Write,
    (state, changed): &(Mutex<State>, Condvar),
    answer: &(dyn Fn(&str) -> Answer + Send + Sync),
) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let mut chunk = [0; 4096];
            let length = stream.read(&mut chunk)?;
            ensure!(length > 0, "the connection has ended");
            buffer.extend_from_slice(chunk.get(..length).unwrap_or_default());
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let head = String::from_utf8_lossy(&head);
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = answer(&target);
        let mut now = state.lock().unwrap_or_else(PoisonError::into_inner);
        now.asked.push(target);
        if !matches!(answer, Answer::Now(..)) {
            now.held += 1;
            changed.notify_all();
            let waits = |state: &mut State| matches!(answer, Answer::Never) || !state.released;
            now = changed.wait_while(now, waits).unwrap_or_else(PoisonError::into_inner);
        }
        drop(now);
        if let Answer::Now(status, body) | Answer::Held(status, body) = answer {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")?;
        }
    }
}
