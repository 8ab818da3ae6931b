//! Datagrams that come back: an ICMP error says that nobody takes them where they were sent (RFC
//! 3261 18.4). The kernel keeps such errors, with what the other side has sent back of the datagram,
//! in a queue beside the socket (`IP_RECVERR`).

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};

/// Bytes looked at of each; the topmost Via of a request is in its first lines.
const BYTES: usize = 1024;
/// Room for the error and the address of who reported it, aligned as control messages must be.
#[repr(align(8))]
struct Control([u8; 256]);

/// Asks the kernel to keep errors.
pub(super) fn switch_on(socket: &impl AsFd, local: SocketAddr) -> nix::Result<()> {
    match local {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    }
}

/// Takes one error from the queue: where the datagram was sent, and what came back of it. `None`
/// where the error is not about its delivery.
pub(super) fn take<'a>(
    socket: &impl AsRawFd,
    room: &'a mut [u8; BYTES],
) -> io::Result<Option<(SocketAddr, &'a [u8])>> {
    let mut control = Control([0; 256]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let (length, remote, undelivered) = {
        let mut slices = [IoSliceMut::new(room)];
        let got = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut control.0),
            flags,
        )?;
        let undelivered = got.cmsgs()?.any(|message| match message {
            ControlMessageOwned::Ipv4RecvErr(error, _) => is_final(&error),
            ControlMessageOwned::Ipv6RecvErr(error, _) => is_final(&error),
            _ => false,
        });
        (got.bytes, got.address.as_ref().and_then(address), undelivered)
    };
    let bytes = room.get(..length).unwrap_or_default();
    Ok(remote.filter(|_| undelivered).map(|remote| (remote, bytes)))
}

/// A buffer for [`take`].
pub(super) fn room() -> [u8; BYTES] {
    [0; BYTES]
}

/// Did a host or router say that the datagram cannot be delivered? That it is too long for the way
/// (EMSGSIZE) the kernel deals with itself.
fn is_final(error: &libc::sock_extended_err) -> bool {
    let by_icmp = matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
    let errno = i32::try_from(error.ee_errno).map_or(Errno::UnknownErrno, Errno::from_raw);
    by_icmp
        && matches!(
            errno,
            Errno::ECONNREFUSED
                | Errno::EHOSTUNREACH
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::ENOPROTOOPT
                | Errno::EACCES
        )
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}
