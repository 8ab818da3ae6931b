//! A capture of what passes, with IP and UDP headers made up from the flow.

use crate::provider::{DatagramRx, DatagramTx, RecvBatch, SendBatch, SendFailure};
use std::io::{self, Write};
use std::net::SocketAddr;
use viaduct_engine::{Flow, Transport};

/// LINKTYPE_RAW: each record begins with an IPv4 or IPv6 header.
const LINKTYPE_RAW: u32 = 101;
const UDP_HEAD_BYTES: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;

/// Wraps a provider and writes every datagram to a pcap file as it passes. What is sent is recorded
/// when it is handed to the provider, whether or not the kernel takes it. An error of the file ends
/// the recording, never the traffic.
pub struct PcapTap<P, W> {
    inner: P,
    file: Option<W>,
    now_us: u64,
    recorded: u64,
}

impl<P, W: Write> PcapTap<P, W> {
    /// Begins a capture; pass a buffered writer.
    pub fn new(inner: P, mut file: W) -> io::Result<PcapTap<P, W>> {
        write_head(&mut file)?;
        Ok(PcapTap { inner, file: Some(file), now_us: 0, recorded: 0 })
    }

    /// Sets the time of the records that follow: microseconds since 1970-01-01 UTC.
    pub fn set_now_us(&mut self, unix_us: u64) {
        self.now_us = unix_us;
    }

    /// Datagrams recorded.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The provider inside.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    /// Ends the recording and gives the file back, unless it has failed before.
    pub fn finish(mut self) -> Option<W> {
        let mut file = self.file.take()?;
        file.flush().ok()?;
        Some(file)
    }

    fn record(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        match write_record(file, self.now_us, from, to, bytes) {
            Ok(()) => self.recorded += 1,
            Err(error) => {
                tracing::warn!(%error, "capture ended");
                self.file = None;
            }
        }
    }
}

/// Begins a capture file.
pub fn write_head(file: &mut impl Write) -> io::Result<()> {
    let mut head = Vec::with_capacity(24);
    head.extend_from_slice(&0xa1b2_c3d4_u32.to_le_bytes()); // times in microseconds
    head.extend_from_slice(&2_u16.to_le_bytes());
    head.extend_from_slice(&4_u16.to_le_bytes());
    head.extend_from_slice(&[0; 8]);
    head.extend_from_slice(&(1_u32 << 17).to_le_bytes()); // longest record
    head.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
    file.write_all(&head)
}

/// Writes one datagram, at so many microseconds since 1970-01-01 UTC. What came by a stream is
/// written as a datagram too.
pub fn write_record(
    file: &mut impl Write,
    now_us: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: &[u8],
) -> io::Result<()> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let udp_bytes = UDP_HEAD_BYTES.saturating_add(bytes.len());
    let udp_length = u16::try_from(udp_bytes).map_err(too_long)?;
    let mut packet = Vec::with_capacity(udp_bytes.saturating_add(40));
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let total = udp_length.checked_add(20).ok_or(io::ErrorKind::InvalidInput)?;
            let mut head = [0_u8; 20];
            head[0] = 0x45;
            head[2..4].copy_from_slice(&total.to_be_bytes());
            (head[8], head[9]) = (HOP_LIMIT, PROTOCOL_UDP);
            head[12..16].copy_from_slice(&from.ip().octets());
            head[16..20].copy_from_slice(&to.ip().octets());
            let sum = checksum(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            packet.extend_from_slice(&head);
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&udp_length.to_be_bytes());
            packet.extend_from_slice(&[PROTOCOL_UDP, HOP_LIMIT]);
            packet.extend_from_slice(&from.ip().octets());
            packet.extend_from_slice(&to.ip().octets());
        }
        _ => return Ok(()), // no such datagram can have been
    }
    for number in [from.port(), to.port(), udp_length, 0] {
        packet.extend_from_slice(&number.to_be_bytes()); // checksum 0: not computed
    }
    packet.extend_from_slice(bytes);
    let length = u32::try_from(packet.len()).map_err(too_long)?;
    let seconds = u32::try_from(now_us / 1_000_000).unwrap_or(u32::MAX);
    for number in [seconds, (now_us % 1_000_000) as u32, length, length] {
        file.write_all(&number.to_le_bytes())?;
    }
    file.write_all(&packet)
}

/// The Internet checksum (RFC 1071) of a header whose checksum field is zero.
fn checksum(head: &[u8; 20]) -> u16 {
    let words = head.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair)));
    let sum = words.fold(0_u32, |sum, word| sum.wrapping_add(word));
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

fn is_datagram(flow: &Flow) -> bool {
    flow.transport == Transport::Udp
}

impl<P: DatagramTx, W: Write> DatagramTx for PcapTap<P, W> {
    fn flush(&mut self, batch: &mut SendBatch, failed: &mut dyn FnMut(SendFailure<'_>)) -> usize {
        for message in batch.iter().filter(|message| is_datagram(&message.flow)) {
            self.record(message.flow.local, message.flow.remote, message.bytes);
        }
        self.inner.flush(batch, failed)
    }
}

impl<P: DatagramRx, W: Write> DatagramRx for PcapTap<P, W> {
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        let count = self.inner.recv(batch)?;
        for (flow, bytes) in batch.iter() {
            self.record(flow.remote, flow.local, bytes);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::udp_flow;
    use crate::udp::{UdpConfig, UdpSocket};
    use viaduct_engine::Token;

    #[test]
    fn both_directions_are_recorded_with_headers_of_the_flow() {
        for family in ["127.0.0.1:0", "[::1]:0"] {
            let open = || UdpSocket::open(family.parse().unwrap(), UdpConfig::default()).unwrap();
            let (socket, far) = (open(), open());
            let (local, remote) = (socket.local_addr(), far.local_addr());
            let mut tap = PcapTap::new(socket, Vec::new()).unwrap();
            tap.set_now_us(1_234_567_890_000_321);
            let mut batch = SendBatch::new();
            batch.push(udp_flow(local, remote), b"INVITE", Token(0));
            assert_eq!(tap.flush(&mut batch, &mut |_| panic!("not sent")), 1);
            assert_eq!(tap.recorded(), 1);
            let file = tap.finish().unwrap();
            let head = if local.is_ipv4() { 20 } else { 40 };
            assert_eq!(file.len(), 24 + 16 + head + 8 + 6);
            let record = &file[24..];
            assert_eq!(record[..8], [0xd2, 0x02, 0x96, 0x49, 0x41, 0x01, 0, 0]);
            let packet = &record[16..];
            assert_eq!(packet[0] >> 4, if local.is_ipv4() { 4 } else { 6 });
            assert_eq!(packet[head..head + 2], local.port().to_be_bytes());
            assert_eq!(packet[head + 2..head + 4], remote.port().to_be_bytes());
            assert_eq!(&packet[head + 8..], b"INVITE");
        }
    }

    #[test]
    fn the_header_checksum_is_the_one_of_a_known_packet() {
        let mut head = [0; 20];
        head.copy_from_slice(&[
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00,
            0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ]);
        assert_eq!(checksum(&head), 0xb861);
    }
}
