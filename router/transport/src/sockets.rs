//! Opening sockets: options every listener gets, and whether an address is still free.

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;

/// What the kernel granted, in bytes as `getsockopt` tells them (the kernel doubles what was asked,
/// for its own book-keeping).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferSizes {
    /// SO_RCVBUF.
    pub recv: usize,
    /// SO_SNDBUF.
    pub send: usize,
}

/// Fails with `AddrInUse` where another program listens on `addr`. Listeners share their address
/// with SO_REUSEPORT, so that a second router started by mistake would silently take half of the
/// traffic; ask this once before the first worker opens its sockets. `transport` is datagram or
/// stream.
pub fn ensure_unused(addr: SocketAddr, stream: bool) -> io::Result<()> {
    let socket = new_socket(addr, stream)?;
    if stream {
        // Connections in TIME-WAIT from an earlier run are no other program.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&addr.into())?;
    if stream {
        socket.listen(1)?;
    }
    Ok(())
}

/// A non-blocking socket of the family of `addr`, not bound. IPv6 sockets take IPv6 only, so that
/// a listener's address is the one peers see and no mapped address appears anywhere.
pub(crate) fn new_socket(addr: SocketAddr, stream: bool) -> io::Result<Socket> {
    let (kind, protocol) =
        if stream { (Type::STREAM, Protocol::TCP) } else { (Type::DGRAM, Protocol::UDP) };
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A socket bound to a listener's address, shared between workers. The address must be concrete:
/// it is what Via, Record-Route and Path will say.
pub(crate) fn bind_shared(addr: SocketAddr, stream: bool) -> io::Result<Socket> {
    if addr.ip().is_unspecified() {
        let text = format!("listener {addr}: name a concrete address, not the wildcard");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let socket = new_socket(addr, stream)?;
    if stream {
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Asks for large buffers and says what was granted. Without CAP_NET_ADMIN the kernel stays below
/// net.core.rmem_max and wmem_max.
pub(crate) fn size_buffers(socket: &Socket, want: usize) -> io::Result<BufferSizes> {
    if setsockopt(socket, sockopt::RcvBufForce, &want).is_err() {
        socket.set_recv_buffer_size(want)?;
    }
    if setsockopt(socket, sockopt::SndBufForce, &want).is_err() {
        socket.set_send_buffer_size(want)?;
    }
    Ok(BufferSizes { recv: socket.recv_buffer_size()?, send: socket.send_buffer_size()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wildcard_is_refused_by_name() {
        for addr in ["0.0.0.0:0", "[::]:0"] {
            let error = bind_shared(addr.parse().unwrap(), false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("concrete address"));
        }
    }

    #[test]
    fn a_second_program_on_the_address_is_noticed_a_second_worker_is_let_in() {
        for stream in [false, true] {
            let first = bind_shared("127.0.0.1:0".parse().unwrap(), stream).unwrap();
            let addr = first.local_addr().unwrap().as_socket().unwrap();
            if stream {
                first.listen(8).unwrap();
            }
            let second = bind_shared(addr, stream).unwrap();
            assert_eq!(second.local_addr().unwrap().as_socket(), Some(addr));
            let error = ensure_unused(addr, stream).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            drop((first, second));
            ensure_unused(addr, stream).unwrap();
        }
    }
}
