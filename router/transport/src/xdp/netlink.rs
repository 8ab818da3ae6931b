//! Questions to the kernel over rtnetlink, and its notifications.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Room for one answer; the kernel's largest is 32 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// Groups of notifications (RTNLGRP_...).
const GROUPS: [u32; 7] = [
    1,  // links
    3,  // neighbours
    5,  // IPv4 addresses
    7,  // IPv4 routes
    8,  // IPv4 rules
    9,  // IPv6 addresses
    11, // IPv6 routes
];

/// A socket to the kernel.
pub(super) struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// For questions.
    pub(super) fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    /// For notifications about links, addresses, routes and neighbours; never blocks.
    pub(super) fn subscribe() -> io::Result<Netlink> {
        let netlink = Netlink::open()?;
        for group in GROUPS {
            netlink.socket.add_membership(group)?;
        }
        netlink.socket.set_rx_buf_sz(1024 * 1024_i32)?;
        netlink.socket.set_non_blocking(true)?;
        Ok(netlink)
    }

    /// For waiting.
    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Everything of one kind.
    pub(super) fn dump(
        &mut self,
        question: RouteNetlinkMessage,
        each: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.send(question, NLM_F_REQUEST | NLM_F_DUMP)?;
        while !self.receive(each)? {}
        Ok(())
    }

    /// One answer; an error is the kernel's.
    pub(super) fn ask(&mut self, question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.send(question, NLM_F_REQUEST)?;
        let mut answer = None;
        while answer.is_none() {
            if self.receive(&mut |message| answer = Some(message))? {
                break;
            }
        }
        answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The notifications that have come. An error of kind `Other` or ENOBUFS means that some were
    /// lost: everything is to be asked again.
    pub(super) fn notifications(
        &mut self,
        each: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        loop {
            match self.receive(each) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, question: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }

    /// Reads one datagram of messages; true: the last of a dump was among them.
    fn receive(&mut self, each: &mut dyn FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
        let length = self.socket.recv(&mut &mut self.buffer[..], 0)?;
        read_all(self.buffer.get(..length).unwrap_or_default(), each)
    }
}

/// The messages of one datagram; true: the last of a dump was among them. An error is the kernel's.
fn read_all(mut rest: &[u8], each: &mut dyn FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
        // What this version of the crate cannot read (a new attribute) is passed over.
        let step = usize::try_from(u32::from_ne_bytes(length_of(rest)?)).unwrap_or(0);
        match message.map(|message| message.payload) {
            Ok(NetlinkPayload::Done(_)) => return Ok(true),
            Ok(NetlinkPayload::Error(error)) if error.code.is_some() => return Err(error.to_io()),
            Ok(NetlinkPayload::InnerMessage(message)) => each(message),
            Ok(_) => {}
            Err(error) => tracing::trace!(%error, "netlink message not read"),
        }
        // Messages are aligned to four bytes.
        let step = step.clamp(16, rest.len().max(16)).next_multiple_of(4).min(rest.len());
        rest = rest.get(step..).unwrap_or_default();
    }
    Ok(false)
}

fn length_of(bytes: &[u8]) -> io::Result<[u8; 4]> {
    bytes.first_chunk().copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::neighbour::NeighbourMessage;
    use proptest::prelude::*;

    use super::*;

    /// A neighbour, as the kernel tells of one.
    fn neighbour(index: u32) -> Vec<u8> {
        let mut told = NeighbourMessage::default();
        told.header.ifindex = index;
        let payload = NetlinkPayload::from(RouteNetlinkMessage::NewNeighbour(told));
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn all_messages_of_a_datagram_are_read() {
        let bytes = [neighbour(3), neighbour(4)].concat();
        let mut seen = Vec::new();
        let last = read_all(&bytes, &mut |message| {
            if let RouteNetlinkMessage::NewNeighbour(told) = message {
                seen.push(told.header.ifindex);
            }
        });
        assert!(!last.unwrap());
        assert_eq!(seen, [3, 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_datagram_is_read_to_its_end_without_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            count in 0u32..4,
        ) {
            let mut bytes: Vec<u8> = (0..count).flat_map(neighbour).chain(noise).collect();
            for (at, value) in damage {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            let mut messages = 0;
            let _ = read_all(&bytes, &mut |_| messages += 1);
            prop_assert!(messages <= bytes.len() / 16 + 1);
        }
    }
}
