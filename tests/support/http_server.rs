//! A small HTTP server that a test tells what to answer, and when.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

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
        let listener = TcpListener::bind(local)?;
        let address = listener.local_addr()?;
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let (shared, answer) = (Arc::clone(&state), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                // What a peer that goes away does to its thread is its own business.
                thread::spawn(move || drop(serve(stream, &shared, &*answer)));
            }
        });
        Ok(Self { address, state })
    }

    /// `http://ADDRESS`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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

fn serve(
    mut stream: TcpStream,
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
