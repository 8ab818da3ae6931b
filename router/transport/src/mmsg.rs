//! `recvmmsg` and `sendmmsg` with a control message per datagram.
//!
//! In the usual build this is the crate's only unsafe code; AF_XDP has its own (`xdp/frames.rs`,
//! `xdp/layout.rs` and `xdp/offload.rs`). The safe wrappers at hand share one control message among
//! all datagrams of a call (so no segmentation size per run) and lose the room for control
//! messages after the first receive. Addresses and control messages are therefore encoded here as
//! plain bytes; unsafe are only the zeroed headers, the two system calls and moving the structs
//! between threads.
#![allow(unsafe_code)]

use crate::provider::{BATCH, SLOT_BYTES, STRIDE_BYTES};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();
const NAME4_BYTES: usize = size_of::<libc::sockaddr_in>();

/// A `sockaddr_in` or `sockaddr_in6` as bytes.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; NAME_BYTES]);

impl Name {
    const EMPTY: Name = Name([0; NAME_BYTES]);

    /// The address as the kernel wants it, and how many of the bytes count.
    fn encode(addr: SocketAddr) -> (Name, usize) {
        let mut bytes = [0; NAME_BYTES];
        let (family, length) = match addr {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, NAME4_BYTES)
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (libc::AF_INET6, NAME_BYTES)
            }
        };
        bytes[0..2].copy_from_slice(&(family as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        (Name(bytes), length)
    }

    /// The address the kernel wrote, if it wrote `length` bytes.
    fn decode(&self, length: usize) -> Option<SocketAddr> {
        let family = i32::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let port = u16::from_be_bytes(*self.part(2)?);
        if family == libc::AF_INET && length >= NAME4_BYTES {
            let ip = Ipv4Addr::from(*self.part::<4>(4)?);
            Some(SocketAddrV4::new(ip, port).into())
        } else if family == libc::AF_INET6 && length >= NAME_BYTES {
            let ip = Ipv6Addr::from(*self.part::<16>(8)?);
            let scope = u32::from_ne_bytes(*self.part(24)?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        } else {
            None
        }
    }

    fn part<const N: usize>(&self, from: usize) -> Option<&[u8; N]> {
        self.0.get(from..)?.first_chunk()
    }
}

const CMSG_HEAD_BYTES: usize = size_of::<libc::cmsghdr>();
/// Room for one control message that carries up to eight bytes.
const CONTROL_BYTES: usize = CMSG_HEAD_BYTES + 8;

/// One control message as bytes: length (as `size_t`), level, type, data.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

impl Control {
    const EMPTY: Control = Control([0; CONTROL_BYTES]);
    const LENGTH_BYTES: usize = size_of::<usize>();
    const SEGMENT_END: usize = CMSG_HEAD_BYTES + size_of::<u16>();
    const LEVEL_AT: usize = CMSG_HEAD_BYTES - 8;
    const TYPE_AT: usize = CMSG_HEAD_BYTES - 4;

    /// UDP_SEGMENT: cut the payload into datagrams of `segment` bytes.
    fn segment(segment: u16) -> Control {
        let mut bytes = [0; CONTROL_BYTES];
        bytes[..Self::LENGTH_BYTES].copy_from_slice(&Self::SEGMENT_END.to_ne_bytes());
        bytes[Self::LEVEL_AT..Self::TYPE_AT].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        bytes[Self::TYPE_AT..CMSG_HEAD_BYTES].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        bytes[CMSG_HEAD_BYTES..Self::SEGMENT_END].copy_from_slice(&segment.to_ne_bytes());
        Control(bytes)
    }

    /// The size of the datagrams that UDP_GRO has joined, if the kernel says that it has.
    fn joined(&self, length: usize) -> Option<usize> {
        if length < CMSG_HEAD_BYTES + size_of::<i32>() {
            return None;
        }
        let number = |at: usize| Some(i32::from_ne_bytes(*self.0.get(at..)?.first_chunk()?));
        let ours =
            number(Self::LEVEL_AT)? == libc::SOL_UDP && number(Self::TYPE_AT)? == libc::UDP_GRO;
        if !ours {
            return None;
        }
        usize::try_from(number(CMSG_HEAD_BYTES)?).ok().filter(|size| *size > 0)
    }
}

/// One datagram, or a run of datagrams of `segment` bytes each (the last may be shorter).
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) remote: SocketAddr,
    pub(crate) segment: Option<u16>,
}

/// What one receive slot holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) remote: SocketAddr,
    /// Bytes in the slot.
    pub(crate) length: usize,
    /// Set where several datagrams were joined: the size of each but the last.
    pub(crate) segment: Option<usize>,
    /// Did the kernel cut something off?
    pub(crate) truncated: bool,
}

/// Headers for [`BATCH`] datagrams, allocated once.
pub(crate) struct Headers {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
}

// SAFETY: the raw pointers in `headers` and `parts` are written anew in each call before the kernel
// reads them and never followed by this program, so a moved struct has no stale pointer in use.
unsafe impl Send for Headers {}

impl Headers {
    pub(crate) fn new() -> Headers {
        // SAFETY: both are C structs of integers and pointers, for which all-zero is a valid value.
        let (header, part) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Headers {
            headers: vec![header; BATCH].into_boxed_slice(),
            parts: vec![part; BATCH].into_boxed_slice(),
            names: vec![Name::EMPTY; BATCH].into_boxed_slice(),
            controls: vec![Control::EMPTY; BATCH].into_boxed_slice(),
        }
    }

    /// Sends up to [`BATCH`] payloads in order; returns how many the kernel took, at least one. An
    /// error is about the first payload. Never blocks.
    pub(crate) fn send<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        payloads: impl Iterator<Item = Payload<'a>>,
    ) -> io::Result<usize> {
        let mut count: libc::c_uint = 0;
        let slots = self.headers.iter_mut().zip(&mut self.parts);
        let slots = slots.zip(self.names.iter_mut().zip(&mut self.controls));
        for (((header, part), (name, control)), payload) in slots.zip(payloads) {
            let name_length;
            (*name, name_length) = Name::encode(payload.remote);
            part.iov_base = payload.bytes.as_ptr().cast_mut().cast();
            part.iov_len = payload.bytes.len();
            let head = &mut header.msg_hdr;
            head.msg_name = std::ptr::from_mut(name).cast();
            head.msg_namelen = name_length as libc::socklen_t;
            head.msg_iov = part;
            head.msg_iovlen = 1;
            (head.msg_control, head.msg_controllen) = match payload.segment {
                Some(segment) => {
                    *control = Control::segment(segment);
                    (std::ptr::from_mut(control).cast(), CONTROL_BYTES as _)
                }
                None => (std::ptr::null_mut(), 0),
            };
            count = count.saturating_add(1);
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` headers point to name, control and part of the same slot, which
        // live in boxes of `self`, borrowed for the whole call; each part covers a slice borrowed
        // for 'a, which outlives the call, and sendmmsg only reads it.
        let sent = unsafe {
            libc::sendmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Receives up to [`BATCH`] datagrams into the slots of `arena`; returns how many. Never
    /// blocks.
    pub(crate) fn recv(&mut self, fd: BorrowedFd<'_>, arena: &mut [u8]) -> io::Result<usize> {
        let mut count: libc::c_uint = 0;
        let slots = self.headers.iter_mut().zip(&mut self.parts);
        let slots = slots.zip(self.names.iter_mut().zip(&mut self.controls));
        for (((header, part), (name, control)), slot) in
            slots.zip(arena.chunks_exact_mut(STRIDE_BYTES))
        {
            part.iov_base = slot.as_mut_ptr().cast();
            part.iov_len = SLOT_BYTES;
            let head = &mut header.msg_hdr;
            head.msg_name = std::ptr::from_mut(name).cast();
            head.msg_namelen = NAME_BYTES as libc::socklen_t;
            head.msg_iov = part;
            head.msg_iovlen = 1;
            head.msg_control = std::ptr::from_mut(control).cast();
            head.msg_controllen = CONTROL_BYTES as _;
            head.msg_flags = 0;
            count = count.saturating_add(1);
        }
        // SAFETY: the first `count` headers point to name, control and part of the same slot, which
        // live in boxes of `self`, borrowed mutably for the whole call, with their true sizes; each
        // part covers SLOT_BYTES of its own chunk of STRIDE_BYTES > SLOT_BYTES of `arena`, which is
        // borrowed mutably for the whole call. No timeout is given.
        let received = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// What the last [`recv`](Self::recv) put into `slot`.
    pub(crate) fn arrived(&self, slot: usize) -> Option<Arrived> {
        let header = self.headers.get(slot)?;
        let head = &header.msg_hdr;
        Some(Arrived {
            remote: self.names.get(slot)?.decode(head.msg_namelen as usize)?,
            length: header.msg_len as usize,
            segment: self.controls.get(slot)?.joined(head.msg_controllen),
            truncated: head.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn addresses_are_encoded_as_the_c_library_lays_them_out() {
        for text in ["192.0.2.7:5060", "[2001:db8::1]:5061", "[fe80::1%7]:49152"] {
            let addr: SocketAddr = text.parse().unwrap();
            let (name, length) = Name::encode(addr);
            let reference = socket2::SockAddr::from(addr);
            assert_eq!(length, reference.len() as usize);
            assert_eq!(name.decode(length), Some(addr));
            // SAFETY: `as_ptr` points to `len` initialised bytes of `reference`.
            let bytes = unsafe { std::slice::from_raw_parts(reference.as_ptr().cast(), length) };
            assert_eq!(&name.0[..length], bytes);
        }
    }

    #[test]
    fn a_short_or_foreign_address_is_no_address() {
        let (name, length) = Name::encode("127.0.0.1:5060".parse().unwrap());
        assert_eq!(name.decode(length - 1), None);
        assert_eq!(Name::EMPTY.decode(NAME_BYTES), None);
    }

    #[test]
    fn control_messages_have_the_layout_of_the_c_macros() {
        // SAFETY: these macros compute sizes from numbers.
        let (room, length) = unsafe { (libc::CMSG_SPACE(8), libc::CMSG_LEN(2)) };
        assert_eq!(CONTROL_BYTES, room as usize);
        let control = Control::segment(1200);
        assert_eq!(control.0[0..8], u64::from(length).to_ne_bytes());
        assert_eq!(control.joined(CONTROL_BYTES), None, "UDP_SEGMENT is not UDP_GRO");
    }

    #[test]
    fn datagrams_go_out_and_come_in_through_moved_headers() {
        let (near, far) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let remote = far.local_addr().unwrap();
        let texts: [&[u8]; 3] = [b"INVITE", b"", b"BYE"];
        let payloads = texts.map(|bytes| Payload { bytes, remote, segment: None });
        let mut headers = Headers::new();
        assert_eq!(headers.send(near.as_fd(), payloads.into_iter()).unwrap(), 3);
        let mut moved = Box::new(headers);
        let mut arena = vec![0; BATCH * STRIDE_BYTES];
        assert_eq!(moved.recv(far.as_fd(), &mut arena).unwrap(), 3);
        for (slot, text) in texts.iter().enumerate() {
            let arrived = moved.arrived(slot).unwrap();
            assert_eq!(arrived.remote, near.local_addr().unwrap());
            assert!(!arrived.truncated && arrived.segment.is_none());
            assert_eq!(&arena[slot * STRIDE_BYTES..][..arrived.length], *text);
        }
        let error = moved.recv(far.as_fd(), &mut arena).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
