//! The socket of a leg.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use mio::unix::SourceFd;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::session::Leg;

/// Enough for a tenth of a second of a fast video stream.
const RECEIVE_BUFFER: usize = 256 * 1024;

pub(super) struct LegSocket {
    socket: UdpSocket,
    local: SocketAddr,
    fd: RawFd,
}

impl LegSocket {
    pub(super) fn open(leg: &Leg) -> io::Result<Self> {
        let local = leg.local;
        let domain = if local.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&local.into())?;
        let socket = UdpSocket::from(socket);
        if local.is_ipv4() {
            setsockopt(&socket, sockopt::IpRecvTos, &true)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        }
        let opened = Self { fd: socket.as_raw_fd(), socket, local };
        opened.set_priority(leg.priority)?;
        Ok(opened)
    }

    /// Above 6 the system wants `CAP_NET_ADMIN` (R-M7).
    pub(super) fn set_priority(&self, priority: u32) -> io::Result<()> {
        let priority = i32::try_from(priority).unwrap_or(i32::MAX);
        Ok(setsockopt(&self.socket, sockopt::Priority, &priority)?)
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }

    pub(super) fn source(&self) -> SourceFd<'_> {
        SourceFd(&self.fd)
    }
}
