//! A phone: a UDP socket that tells the IP header fields of what it receives.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use crate::namespace::Namespace;

/// Longest that a packet which must come is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// More packets than a socket's buffer of the usual size has room for.
const BUFFER_PACKETS: usize = 1_000;

pub(crate) struct Phone {
    socket: UdpSocket,
    pub(crate) address: SocketAddr,
}

/// A packet as it arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) data: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) tclass: u8,
    pub(crate) ttl: u8,
}

impl Phone {
    pub(crate) fn new(host: &Namespace, address: &str) -> Result<Self> {
        let address: SocketAddr = address.parse()?;
        let socket = host.enter(move || Ok(UdpSocket::bind(address)?)).context(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::IpRecvTos, &true)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        }
        Ok(Self { socket, address })
    }

    pub(crate) fn send(&self, to: SocketAddr, data: &[u8]) -> Result<()> {
        self.socket.send_to(data, to)?;
        Ok(())
    }

    /// With this traffic class and hop limit.
    pub(crate) fn send_marked(
        &self,
        to: SocketAddr,
        data: &[u8],
        (tclass, ttl): (u8, u8),
    ) -> Result<()> {
        let (tclass_int, ttl_int) = (i32::from(tclass), i32::from(ttl));
        let marks = if to.is_ipv4() {
            [ControlMessage::Ipv4Tos(&tclass), ControlMessage::Ipv4Ttl(&ttl_int)]
        } else {
            [ControlMessage::Ipv6TClass(&tclass_int), ControlMessage::Ipv6HopLimit(&ttl_int)]
        };
        let to = SockaddrStorage::from(to);
        let parts = [IoSlice::new(data)];
        sendmsg(self.socket.as_raw_fd(), &parts, &marks, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    /// Waits for a packet.
    pub(crate) fn receive(&self) -> Result<Arrived> {
        self.receive_with(MsgFlags::empty()).context("nothing arrived")
    }

    /// One of a stream that goes on until something has happened: at once after each other they
    /// would fill the buffers on the way, and a later packet would be lost.
    pub(crate) fn stream(&self, to: SocketAddr, data: &[u8]) -> Result<()> {
        self.send(to, data)?;
        thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    /// What has arrived already, without waiting. More than the socket's buffer holds has come since.
    pub(crate) fn drain(&self) -> Vec<Arrived> {
        let arrived = || self.receive_with(MsgFlags::MSG_DONTWAIT).ok();
        std::iter::from_fn(arrived).take(BUFFER_PACKETS).collect()
    }

    fn receive_with(&self, flags: MsgFlags) -> Result<Arrived> {
        let mut data = vec![0; 65_536];
        let mut space = cmsg_space!(i32, i32);
        let mut parts = [IoSliceMut::new(&mut data)];
        let fd = self.socket.as_raw_fd();
        let got = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), flags)?;
        let (mut tclass, mut ttl) = (0, 0);
        for message in got.cmsgs()? {
            match message {
                ControlMessageOwned::Ipv4Tos(value) => tclass = value,
                ControlMessageOwned::Ipv6TClass(value) => tclass = u8::try_from(value)?,
                ControlMessageOwned::Ipv4Ttl(value) => ttl = u8::try_from(value)?,
                ControlMessageOwned::Ipv6HopLimit(value) => ttl = u8::try_from(value)?,
                _ => {}
            }
        }
        let from = got.address.context("no source")?;
        let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
            (Some(v4), _) => SocketAddr::from((v4.ip(), v4.port())),
            (_, Some(v6)) => SocketAddr::from((v6.ip(), v6.port())),
            _ => anyhow::bail!("a source of another family"),
        };
        let len = got.bytes;
        data.truncate(len);
        data.shrink_to_fit();
        Ok(Arrived { data, from, tclass, ttl })
    }
}
