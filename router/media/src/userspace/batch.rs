//! `recvmmsg` and `sendmmsg`: many packets a system call.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmmsg,
};

use super::socket::LegSocket;
use crate::relay::{Forward, Now, Packet, Relay, Verdict};
use crate::session::Counter;

/// Packets in a batch.
const PACKETS: usize = 32;
/// Largest UDP payload that is relayed, in octets.
const PAYLOAD: usize = 2_048;

/// What is known of a received packet besides its octets.
#[derive(Clone, Copy)]
struct Head {
    len: usize,
    truncated: bool,
    source: SocketAddr,
    tclass: u8,
    ttl: u8,
}

/// Room for a batch.
pub(super) struct Batch {
    buffers: Vec<[u8; PAYLOAD]>,
    heads: Vec<Head>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { buffers: vec![[0; PAYLOAD]; PACKETS], heads: Vec::with_capacity(PACKETS) }
    }

    /// Receives what there is. False: nothing.
    pub(super) fn receive(&mut self, socket: &LegSocket) -> bool {
        self.heads.clear();
        // Made anew each time: what a receive leaves in it is not good for the next one.
        let mut headers =
            MultiHeaders::<SockaddrStorage>::preallocate(PACKETS, Some(cmsg_space!(i32, i32)));
        let mut parts: Vec<_> =
            self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let Ok(received) = recvmmsg(socket.fd(), &mut headers, parts.iter_mut(), flags, None)
        else {
            return false;
        };
        for message in received {
            let mut head = Head {
                len: message.bytes.min(PAYLOAD),
                truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
                source: message.address.as_ref().and_then(address).unwrap_or(socket.local()),
                tclass: 0,
                ttl: 64,
            };
            for cmsg in message.cmsgs().into_iter().flatten() {
                match cmsg {
                    ControlMessageOwned::Ipv4Tos(value) => head.tclass = value,
                    ControlMessageOwned::Ipv6TClass(value) => head.tclass = octet(value),
                    ControlMessageOwned::Ipv4Ttl(value) => head.ttl = octet(value),
                    ControlMessageOwned::Ipv6HopLimit(value) => head.ttl = octet(value),
                    _ => {}
                }
            }
            self.heads.push(head);
        }
        !self.heads.is_empty()
    }

    /// Judges what was received at the leg `local`, and sends it from the socket `out`.
    pub(super) fn relay(&self, relay: &mut Relay, now: Now, local: SocketAddr, out: &LegSocket) {
        let mut run: Vec<(Packet<'_>, Forward)> = Vec::with_capacity(PACKETS);
        for (head, buffer) in self.heads.iter().zip(&self.buffers) {
            if head.truncated {
                relay.dropped(local, Counter::Size);
                continue;
            }
            let data = buffer.get(..head.len).unwrap_or_default();
            let Head { source, tclass, ttl, .. } = *head;
            let packet = Packet { source, tclass, ttl, data };
            let Verdict::Forward(forward) = relay.receive(now, local, packet) else { continue };
            let same = |other: &Forward| (other.tclass, other.ttl) == (forward.tclass, forward.ttl);
            if run.last().is_some_and(|(_, last)| !same(last)) {
                flush(relay, now, local, out, &run);
                run.clear();
            }
            run.push((packet, forward));
        }
        flush(relay, now, local, out, &run);
    }
}

/// Sends packets whose headers are alike: one control message serves a whole call.
fn flush(
    relay: &mut Relay,
    now: Now,
    local: SocketAddr,
    out: &LegSocket,
    run: &[(Packet<'_>, Forward)],
) {
    let mut rest = run;
    while let Some(((packet, forward), behind)) = rest.split_first() {
        match send(out, rest) {
            Ok(sent) => {
                let (done, left) = rest.split_at(sent.clamp(1, rest.len()));
                done.iter().for_each(|packet| relay.sent(now, local, *packet, None));
                rest = left;
            }
            // It is the first that failed; those behind have their own try.
            Err(errno) => {
                let fault = match errno {
                    Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM => Counter::NoMemory,
                    _ => Counter::NoRoute,
                };
                relay.sent(now, local, (*packet, *forward), Some(fault));
                rest = behind;
            }
        }
    }
}

fn send(out: &LegSocket, run: &[(Packet<'_>, Forward)]) -> nix::Result<usize> {
    let Some((_, first)) = run.first() else { return Ok(0) };
    let (tclass, ttl) = (i32::from(first.tclass), i32::from(first.ttl));
    let marks = if first.to.is_ipv4() {
        [ControlMessage::Ipv4Tos(&first.tclass), ControlMessage::Ipv4Ttl(&ttl)]
    } else {
        [ControlMessage::Ipv6TClass(&tclass), ControlMessage::Ipv6HopLimit(&ttl)]
    };
    let parts: Vec<_> = run.iter().map(|(packet, _)| [IoSlice::new(packet.data)]).collect();
    let to: Vec<_> = run.iter().map(|(_, f)| Some(SockaddrStorage::from(f.to))).collect();
    let mut headers =
        MultiHeaders::<SockaddrStorage>::preallocate(run.len(), Some(cmsg_space!(i32, i32)));
    let sent = sendmmsg(out.fd(), &mut headers, &parts, to, marks, MsgFlags::MSG_DONTWAIT)?;
    Ok(sent.count())
}

fn octet(value: i32) -> u8 {
    u8::try_from(value).unwrap_or(0)
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = storage.as_sockaddr_in6()?;
    Some(SocketAddr::from((v6.ip(), v6.port())))
}
