//! The generator's sockets, and the little it reads of a SIP message: enough to know that an answer
//! is the right one.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendmsg,
};
use socket2::{Domain, Socket, Type};

/// Which of the generator's two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Sends requests and calls.
    Caller,
    /// Is called.
    Callee,
}

/// Two UDP sockets connected to the server.
///
/// What is sent waits for [`Wire::flush`] and leaves with few system calls, as one datagram to be cut up
/// where several are of one length, so that servers wait less for the generator. One that waits pays for
/// being woken, and what is measured then is the scheduler.
pub(crate) struct Wire {
    caller: UdpSocket,
    callee: UdpSocket,
    /// What is to be sent, in order. The caller's, the callee's.
    waiting: [RefCell<Waiting>; 2],
}

/// Datagrams that have arrived, taken with one system call: a generator that is slower than the server
/// hands it few at a time, and what is measured then is the generator.
pub(crate) struct Inbox {
    buffers: Vec<[u8; 4_096]>,
    lengths: Vec<usize>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let headers = MultiHeaders::preallocate(INBOX, None);
        Self { buffers: vec![[0; 4_096]; INBOX], lengths: Vec::with_capacity(INBOX), headers }
    }

    /// What [`Wire::receive`] has put in, oldest first.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let both = self.buffers.iter().zip(&self.lengths);
        both.filter_map(|(buffer, length)| buffer.get(..*length))
    }
}

/// Datagrams one behind the other.
struct Waiting {
    /// May they leave as one? On a cable they would arrive as one, and what it costs to cut them up would
    /// be the server's.
    runs: bool,
    octets: Vec<u8>,
    ends: Vec<usize>,
    headers: MultiHeaders<SockaddrStorage>,
}

/// Kernel buffers of each socket in octets: all that 64 calls can have in flight, twice. On a cable
/// what is sent counts as the sender's until the server's core has taken it.
const BUFFER: usize = 1 << 20;
/// Datagrams of one side that leave together at most.
const BATCH: usize = 16;
/// Datagrams taken together at most.
const INBOX: usize = 32;
/// Runs of one length that leave one by one; what is more mixed leaves with one system call.
const MOST_RUNS: usize = 4;
/// Longest wait for a datagram before late answers are looked for, milliseconds.
const LOOK_MS: u16 = 20;

impl Wire {
    /// Sockets at `caller` and `callee`, talking to `server`.
    pub(crate) fn new(caller: SocketAddr, callee: SocketAddr, server: SocketAddr) -> Result<Self> {
        let runs = server.ip().is_loopback();
        let waiting = [Waiting::new(runs), Waiting::new(runs)].map(RefCell::new);
        Ok(Self { caller: connected(caller, server)?, callee: connected(callee, server)?, waiting })
    }

    fn socket(&self, side: Side) -> &UdpSocket {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    /// Sends one datagram to the server, with the next [`Wire::flush`] at the latest.
    pub(crate) fn send(&self, side: Side, datagram: &[u8]) -> Result<()> {
        let [caller, callee] = &self.waiting;
        let waiting = if side == Side::Caller { caller } else { callee };
        let mut waiting = waiting.borrow_mut();
        waiting.octets.extend_from_slice(datagram);
        let end = waiting.octets.len();
        waiting.ends.push(end);
        if waiting.ends.len() == BATCH { waiting.flush(self.socket(side)) } else { Ok(()) }
    }

    /// Sends what waits.
    pub(crate) fn flush(&self) -> Result<()> {
        for (waiting, side) in self.waiting.iter().zip([Side::Caller, Side::Callee]) {
            waiting.borrow_mut().flush(self.socket(side))?;
        }
        Ok(())
    }

    /// Takes the datagrams that are there already, as many as the inbox has room for.
    pub(crate) fn receive(&self, side: Side, inbox: &mut Inbox) -> Result<()> {
        let Inbox { buffers, lengths, headers } = inbox;
        lengths.clear();
        let mut slices: Vec<_> = buffers.iter_mut().map(|one| [IoSliceMut::new(one)]).collect();
        let fd = self.socket(side).as_raw_fd();
        match recvmmsg(fd, headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
            Ok(arrived) => lengths.extend(arrived.map(|one| one.bytes)),
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error).context("receiving from the server"),
        }
        Ok(())
    }

    /// Sleeps until there is something to receive; `false` where nothing came for a while.
    pub(crate) fn wait(&self) -> Result<bool> {
        let mut both = [&self.caller, &self.callee]
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        let ready = poll(&mut both, PollTimeout::from(LOOK_MS)).context("waiting for an answer")?;
        Ok(ready > 0)
    }
}

impl Waiting {
    fn new(runs: bool) -> Self {
        Self {
            runs,
            octets: Vec::new(),
            ends: Vec::new(),
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    fn flush(&mut self, socket: &UdpSocket) -> Result<()> {
        let Self { runs, octets, ends, headers } = self;
        let starts = std::iter::once(&0).chain(ends.iter());
        let all: Vec<&[u8]> =
            starts.zip(ends.iter()).filter_map(|(start, end)| octets.get(*start..*end)).collect();
        let mut alike = all.chunk_by(|a, b| a.len() == b.len());
        if *runs && alike.clone().count() <= MOST_RUNS {
            alike.try_for_each(|run| send_run(socket, run))?;
        } else {
            send_each(socket, headers, &all)?;
        }
        octets.clear();
        ends.clear();
        Ok(())
    }
}

/// Datagrams of one length as one that the kernel cuts up (UDP_SEGMENT) before the server's socket gets
/// it.
fn send_run(socket: &UdpSocket, run: &[&[u8]]) -> Result<()> {
    let segment = u16::try_from(run.first().map_or(0, |one| one.len()))?;
    let slices: Vec<IoSlice<'_>> = run.iter().map(|one| IoSlice::new(one)).collect();
    let control = [ControlMessage::UdpGsoSegments(&segment)];
    let control = if run.len() > 1 { &control[..] } else { &[] };
    let sent = sendmsg::<()>(socket.as_raw_fd(), &slices, control, MsgFlags::empty(), None);
    sent.map(drop).context("sending to the server")
}

fn send_each(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    all: &[&[u8]],
) -> Result<()> {
    let datagrams: Vec<[IoSlice<'_>; 1]> = all.iter().map(|one| [IoSlice::new(one)]).collect();
    let mut sent = 0;
    while let Some(rest) = datagrams.get(sent..).filter(|rest| !rest.is_empty()) {
        let nowhere = vec![None::<SockaddrStorage>; rest.len()];
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        let took = sendmmsg(fd, headers, rest, nowhere, [], flags);
        sent += took.context("sending to the server")?.count();
    }
    Ok(())
}

/// Appends a header that makes the message, of which so many octets are to follow, a multiple of 64 octets
/// long: messages of one kind are of one length then, whatever numbers are in them, and leave together.
pub(crate) fn fill(text: &mut String, following: usize) {
    const STEP: usize = 64;
    text.push_str("User-Agent: load generator ");
    let length = text.len() + "\r\n".len() + following;
    text.extend(std::iter::repeat_n('.', length.next_multiple_of(STEP) - length));
    text.push_str("\r\n");
}

/// A socket at `local` that talks to `server` and never blocks.
pub(crate) fn connected(local: SocketAddr, server: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, None)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&local.into()).with_context(|| format!("binding {local}"))?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// The status code of a response, or `None` for a request.
pub(crate) fn status(message: &[u8]) -> Option<u16> {
    let digits = message.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The value of the first header field whose line begins with `name` (with its colon).
pub(crate) fn header<'a>(message: &'a [u8], name: &str) -> Option<&'a [u8]> {
    headers(message, name).next()
}

/// The values of all such header fields, in order.
pub(crate) fn headers<'a>(message: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    lines(message).filter_map(move |line| {
        let (found, value) = line.split_at_checked(name.len())?;
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The lines of the header section after the start line.
pub(crate) fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = memchr::memchr(b'\n', message).and_then(|end| message.get(end + 1..));
    std::iter::from_fn(move || {
        let text = rest?;
        let end = memchr::memchr(b'\n', text)?;
        let line = text.get(..end)?.strip_suffix(b"\r")?;
        rest = text.get(end + 1..);
        (!line.is_empty()).then_some(line)
    })
}

/// What we wrote behind `marker`: slot and sequence number, as in `marker12-345`.
pub(crate) fn slot_and_sequence(message: &[u8], marker: &[u8]) -> Option<(usize, u32)> {
    let mut found = memchr::memchr_iter(*marker.first()?, message);
    let behind = found.find_map(|at| message.get(at..)?.strip_prefix(marker))?;
    let (slot, rest) = number(behind)?;
    let (sequence, _) = number(rest.strip_prefix(b"-")?)?;
    Some((slot as usize, sequence))
}

/// A decimal number at the front, and what follows it.
pub(crate) fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKb7-42\r\nCSeq: 5 BYE\r\n\r\nCSeq: 6 x\r\n";

    #[test]
    fn datagrams_arrive_each_by_itself_whatever_leaves_together() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let wire = Wire::new(any, any, server.local_addr().unwrap()).unwrap();
        for lengths in [&[100, 100, 100, 7][..], &[1, 2, 3, 4, 5, 6], &[9]] {
            for length in lengths {
                wire.send(Side::Caller, &vec![b'x'; *length]).unwrap();
            }
            wire.flush().unwrap();
            let mut buffer = [0; 1_000];
            let arrived = lengths.iter().map(|_| server.recv(&mut buffer).unwrap());
            assert_eq!(arrived.collect::<Vec<_>>(), lengths);
        }
    }

    #[test]
    fn what_identifies_an_answer_is_read() {
        assert_eq!(status(MESSAGE), Some(200));
        assert_eq!(status(b"BYE sip:a SIP/2.0\r\n"), None);
        assert_eq!(slot_and_sequence(MESSAGE, b"z9hG4bKb"), Some((7, 42)));
        assert_eq!(header(MESSAGE, "cseq:"), Some(b"5 BYE".as_slice()));
        assert_eq!(headers(MESSAGE, "CSeq:").count(), 1);
        assert_eq!(slot_and_sequence(b"z9hG4bKb7", b"z9hG4bKb"), None);
    }
}
