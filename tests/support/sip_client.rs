//! A small blocking SIP client over UDP or TCP: sends text, waits for the message it is asked for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use super::net::Transport;
use super::sip_text::{Received, Request};

/// How long a client waits for an answer unless told otherwise: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Longest message a client takes.
const MAX_MESSAGE: usize = 65_536;

/// One socket that speaks SIP.
#[derive(Debug)]
pub struct SipClient {
    wire: Wire,
    local: SocketAddr,
    server: SocketAddr,
    /// Messages that came while another was waited for.
    waiting: VecDeque<Received>,
}

#[derive(Debug)]
enum Wire {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, buffer: Vec<u8> },
}

impl SipClient {
    /// A client at `local` (port 0: any) that talks to `server`.
    ///
    /// # Errors
    /// When the socket cannot be made or the connection is refused.
    pub fn new(transport: Transport, local: SocketAddr, server: SocketAddr) -> Result<Self> {
        let wire = match transport {
            Transport::Udp => Wire::Udp(UdpSocket::bind(local).context("binding a UDP client")?),
            Transport::Tcp => {
                let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)?;
                socket.bind(&local.into()).context("binding a TCP client")?;
                socket
                    .connect(&server.into())
                    .with_context(|| format!("connecting to {server}"))?;
                Wire::Tcp { stream: socket.into(), buffer: Vec::new() }
            }
        };
        let local = match &wire {
            Wire::Udp(socket) => socket.local_addr()?,
            Wire::Tcp { stream, .. } => stream.local_addr()?,
        };
        Ok(Self { wire, local, server, waiting: VecDeque::new() })
    }

    /// A client on the next connection somebody makes to `listener`.
    ///
    /// # Errors
    /// When `within` passes first.
    pub fn accept(listener: &TcpListener, within: Duration) -> Result<Self> {
        let deadline = Instant::now() + within;
        listener.set_nonblocking(true)?;
        let (stream, server) = loop {
            let mut wanted = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let left = deadline.saturating_duration_since(Instant::now());
            poll(&mut wanted, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))?;
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock && !left.is_zero() => {}
                Err(error) => return Err(error).context("waiting for a connection"),
            }
        };
        stream.set_nonblocking(false)?;
        let local = stream.local_addr()?;
        let wire = Wire::Tcp { stream, buffer: Vec::new() };
        Ok(Self { wire, local, server, waiting: VecDeque::new() })
    }

    /// The client's own address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The transport it speaks.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.wire {
            Wire::Udp(_) => Transport::Udp,
            Wire::Tcp { .. } => Transport::Tcp,
        }
    }

    /// A Contact URI at which this client can be reached.
    #[must_use]
    pub fn contact(&self, user: &str) -> String {
        match self.transport() {
            Transport::Udp => format!("sip:{user}@{}", self.local),
            Transport::Tcp => format!("sip:{user}@{};transport=tcp", self.local),
        }
    }

    /// Sends octets as they are.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.wire {
            Wire::Udp(socket) => {
                socket.send_to(bytes, self.server)?;
            }
            Wire::Tcp { stream, .. } => stream.write_all(bytes)?,
        }
        Ok(())
    }

    /// Sends a request and returns its text.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send(&mut self, request: &Request) -> Result<String> {
        let text = request.render(self.transport(), self.local);
        self.send_raw(text.as_bytes())?;
        Ok(text)
    }

    /// Waits for a message that `wanted` accepts; others stay for later questions.
    ///
    /// # Errors
    /// When `within` passes first or the connection ends; the error lists what came instead.
    pub fn expect(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Received) -> bool,
    ) -> Result<Received> {
        let deadline = Instant::now() + within;
        if let Some(found) = self.waiting.iter().position(&wanted)
            && let Some(message) = self.waiting.remove(found)
        {
            return Ok(message);
        }
        loop {
            match self.read_one(deadline)? {
                Some(message) if wanted(&message) => return Ok(message),
                Some(message) => self.waiting.push_back(message),
                None => bail!("no {what} within {within:?}; there came {:#?}", self.waiting),
            }
        }
    }

    /// Whether a message that `wanted` accepts has come, or comes within this time; it stays.
    ///
    /// # Errors
    /// What the socket says.
    pub fn has(&mut self, within: Duration, wanted: impl Fn(&Received) -> bool) -> Result<bool> {
        let deadline = Instant::now() + within;
        while !self.waiting.iter().any(&wanted) {
            match self.read_one(deadline)? {
                Some(message) => self.waiting.push_back(message),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Messages that came while others were waited for, in order; they are forgotten here.
    pub fn take_waiting(&mut self) -> Vec<Received> {
        self.waiting.drain(..).collect()
    }

    /// Sends a request and waits for its final response. Over UDP it is retransmitted every half
    /// second, as a user agent would (RFC 3261 17.1.2.1, without the doubling).
    ///
    /// # Errors
    /// When no final response comes within [`PATIENCE`].
    pub fn transact(&mut self, request: &Request) -> Result<Received> {
        let text = request.render(self.transport(), self.local);
        let branch = text.split("branch=").nth(1).and_then(|rest| rest.split(';').next());
        let branch = branch.context("a request without a branch")?.to_owned();
        let deadline = Instant::now() + PATIENCE;
        let first_line = text.lines().next().unwrap_or_default().to_owned();
        self.send_raw(text.as_bytes())?;
        loop {
            let is_final = |message: &Received| {
                message.status().is_some_and(|status| status >= 200)
                    && message.header("Via").is_some_and(|via| via.contains(&branch))
            };
            let step = match self.transport() {
                Transport::Udp => Duration::from_millis(500),
                Transport::Tcp => PATIENCE,
            };
            match self.expect(&format!("final response to {first_line}"), step, is_final) {
                Ok(message) => return Ok(message),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => self.send_raw(text.as_bytes())?,
            }
        }
    }

    /// The next message, or `None` at the deadline.
    fn read_one(&mut self, deadline: Instant) -> Result<Option<Received>> {
        loop {
            if let Wire::Tcp { buffer, .. } = &mut self.wire
                && let Some(text) = take_framed(buffer)?
            {
                return Ok(Some(Received { text, from: self.server }));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut chunk = vec![0; MAX_MESSAGE];
            let outcome = match &mut self.wire {
                Wire::Udp(socket) => {
                    socket.set_read_timeout(Some(left))?;
                    socket.recv_from(&mut chunk).map(|(n, from)| (n, Some(from)))
                }
                Wire::Tcp { stream, .. } => {
                    stream.set_read_timeout(Some(left))?;
                    stream.read(&mut chunk).map(|n| (n, None))
                }
            };
            match (outcome, &mut self.wire) {
                (Ok((n, Some(from))), _) => {
                    let text = String::from_utf8_lossy(chunk.get(..n).unwrap_or_default());
                    return Ok(Some(Received { text: text.into_owned(), from }));
                }
                (Ok((0, None)), _) => bail!("the server closed the connection"),
                (Ok((n, None)), Wire::Tcp { buffer, .. }) => {
                    buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
                }
                (Err(error), _)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                // A port closed at the other end is reported on the next receive; a UDP client
                // goes on, as a phone does while its server restarts.
                (Err(error), Wire::Udp(_)) if error.kind() == ErrorKind::ConnectionRefused => {}
                (Err(error), _) => return Err(error).context("receiving"),
                (Ok(_), Wire::Udp(_)) => {}
            }
        }
    }
}

/// Takes one whole message off the front of a stream's buffer (RFC 3261 18.3).
fn take_framed(buffer: &mut Vec<u8>) -> Result<Option<String>> {
    // A keep-alive may stand before a start line.
    let blank = buffer.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
    buffer.drain(..blank);
    let Some(head_end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
        if buffer.len() > MAX_MESSAGE {
            bail!("a header section of more than {MAX_MESSAGE} octets");
        }
        return Ok(None);
    };
    let head = String::from_utf8_lossy(buffer.get(..head_end).unwrap_or_default()).into_owned();
    let probe = Received { text: head + "\r\n\r\n", from: ([0, 0, 0, 0], 0).into() };
    let length =
        probe.header("Content-Length").context("a stream message without Content-Length")?;
    let length: usize = length.parse().with_context(|| format!("Content-Length '{length}'"))?;
    let end = head_end + 4 + length;
    if buffer.len() < end {
        return Ok(None);
    }
    let message: Vec<u8> = buffer.drain(..end).collect();
    Ok(Some(String::from_utf8_lossy(&message).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_messages_are_taken_one_by_one_and_only_whole() {
        let mut buffer = b"\r\n\r\nA 1\r\nl: 2\r\n\r\nxyB 2\r\nContent-Length: 3\r\n\r\nz".to_vec();
        assert_eq!(take_framed(&mut buffer).unwrap().unwrap(), "A 1\r\nl: 2\r\n\r\nxy");
        assert!(take_framed(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(b"zz");
        assert!(take_framed(&mut buffer).unwrap().unwrap().ends_with("zzz"));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_stream_message_without_length_is_an_error() {
        assert!(take_framed(&mut b"A 1\r\nX: y\r\n\r\n".to_vec()).is_err());
    }

    #[test]
    fn what_is_not_wanted_now_is_found_later() {
        let ip = super::super::net::own_address();
        let server = UdpSocket::bind((ip, 0)).unwrap();
        let address = server.local_addr().unwrap();
        let mut client = SipClient::new(Transport::Udp, (ip, 0).into(), address).unwrap();
        for text in ["SIP/2.0 100 Trying\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n"] {
            server.send_to(text.as_bytes(), client.local()).unwrap();
        }
        client.expect("200", PATIENCE, |m| m.status() == Some(200)).unwrap();
        client.expect("100", PATIENCE, |m| m.status() == Some(100)).unwrap();
    }
}
