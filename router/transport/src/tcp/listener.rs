//! A listening socket, shared with the other workers.

use crate::sockets::bind_shared;
use mio::Registry;
use mio::event::Source;
use std::io;
use std::net::SocketAddr;

/// Connections the kernel may hold until we accept them.
const BACKLOG: i32 = 1024;

pub(super) struct Listener {
    socket: mio::net::TcpListener,
    pub(super) local: SocketAddr,
    /// Connections may be waiting.
    pub(super) pending: bool,
}

impl Listener {
    pub(super) fn open(
        addr: SocketAddr,
        registry: &Registry,
        token: mio::Token,
    ) -> io::Result<Listener> {
        let socket = bind_shared(addr, true)?;
        socket.listen(BACKLOG)?;
        let mut socket = mio::net::TcpListener::from_std(socket.into());
        let local = socket.local_addr()?;
        socket.register(registry, token, mio::Interest::READABLE)?;
        Ok(Listener { socket, local, pending: false })
    }

    /// The next connection that waits; `None` when there is none any more.
    pub(super) fn accept(&mut self) -> io::Result<Option<(mio::net::TcpStream, SocketAddr)>> {
        loop {
            match self.socket.accept() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pending = false;
                    return Ok(None);
                }
                // The peer has gone again, or a signal came: the next one.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
