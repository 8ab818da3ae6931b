//! One socket that speaks octets to the router: a UDP socket, or a TCP connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use viaduct_tests::support::net::Transport;

use crate::octets;

/// Longest message taken.
const MAX_MESSAGE: usize = 65_536;

/// What came next.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// A whole message.
    Message(Vec<u8>),
    /// The router has closed the connection.
    Closed,
}

/// A socket and its peer, the router.
#[derive(Debug)]
pub(crate) struct Flow {
    wire: Wire,
    server: SocketAddr,
    local: SocketAddr,
}

#[derive(Debug)]
enum Wire {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, buffer: Vec<u8> },
}

impl Flow {
    /// A flow from `ip` (any port) to `server`.
    pub(crate) fn open(transport: Transport, ip: IpAddr, server: SocketAddr) -> Result<Self> {
        let local = SocketAddr::new(ip, 0);
        let (wire, local) = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(local).context("binding a UDP socket")?;
                let local = socket.local_addr()?;
                (Wire::Udp(socket), local)
            }
            Transport::Tcp => {
                let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)?;
                socket.bind(&local.into()).context("binding a TCP socket")?;
                socket
                    .connect(&server.into())
                    .with_context(|| format!("connecting to {server}"))?;
                socket.set_tcp_nodelay(true)?;
                let stream = TcpStream::from(socket);
                let local = stream.local_addr()?;
                (Wire::Tcp { stream, buffer: Vec::new() }, local)
            }
        };
        Ok(Self { wire, server, local })
    }

    /// Its own address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// The transport it speaks.
    pub(crate) fn transport(&self) -> Transport {
        match self.wire {
            Wire::Udp(_) => Transport::Udp,
            Wire::Tcp { .. } => Transport::Tcp,
        }
    }

    /// The same socket for another thread. Only one of the two may receive.
    pub(crate) fn twin(&self) -> Result<Self> {
        let wire = match &self.wire {
            Wire::Udp(socket) => Wire::Udp(socket.try_clone()?),
            Wire::Tcp { stream, .. } => {
                Wire::Tcp { stream: stream.try_clone()?, buffer: Vec::new() }
            }
        };
        Ok(Self { wire, ..*self })
    }

    /// Sends octets as they are.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Result<()> {
        match &mut self.wire {
            Wire::Udp(socket) => socket.send_to(octets, self.server).map(drop)?,
            Wire::Tcp { stream, .. } => stream.write_all(octets)?,
        }
        Ok(())
    }

    /// The next that comes, or `None` when `within` has passed.
    pub(crate) fn receive(&mut self, within: Duration) -> Result<Option<Arrival>> {
        let deadline = Instant::now() + within;
        loop {
            if let Wire::Tcp { buffer, .. } = &mut self.wire
                && let Some(message) = octets::take_framed(buffer)?
            {
                return Ok(Some(Arrival::Message(message)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if let Some(arrival) = self.read(left)? {
                return Ok(Some(arrival));
            }
        }
    }

    /// Reads once: a datagram, the end of a stream, or more of a stream into its buffer.
    fn read(&mut self, within: Duration) -> Result<Option<Arrival>> {
        let mut chunk = vec![0; MAX_MESSAGE];
        let count = match &mut self.wire {
            Wire::Udp(socket) => {
                socket.set_read_timeout(Some(within))?;
                socket.recv(&mut chunk)
            }
            Wire::Tcp { stream, .. } => {
                stream.set_read_timeout(Some(within))?;
                stream.read(&mut chunk)
            }
        };
        let count = match count {
            Ok(count) => count,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                    return Ok(None);
                }
                ErrorKind::ConnectionReset => return Ok(Some(Arrival::Closed)),
                _ => return Err(error).context("receiving"),
            },
        };
        chunk.truncate(count);
        match &mut self.wire {
            Wire::Udp(_) => Ok(Some(Arrival::Message(chunk))),
            Wire::Tcp { .. } if count == 0 => Ok(Some(Arrival::Closed)),
            Wire::Tcp { buffer, .. } => {
                buffer.extend_from_slice(&chunk);
                Ok(None)
            }
        }
    }
}
