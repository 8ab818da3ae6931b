//! Frames and rings of one queue of an interface: the only place that touches shared memory.
//!
//! All workers have a socket on each queue. The sockets of a queue share its frames, its fill ring
//! and its completion ring, which lie behind a lock taken once a batch. At any time each frame is
//! in exactly one of four places, and [`Frames`] counts them:
//!
//! * `free`: on the shared list;
//! * `filled`: with the kernel to receive into, or received and not read yet;
//! * `held`: with a port, about to be written;
//! * `sending`: with the kernel to be sent, or sent and not taken back yet.
//!
//! Received bytes are copied out and their frames given back within one call, so a port never keeps
//! a received frame.
#![allow(unsafe_code)]

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use parking_lot::Mutex;
use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize};
use xsk_rs::config::{SocketConfig, UmemConfig};
use xsk_rs::umem::frame::FrameDesc;
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue, Umem};

use crate::provider::BATCH;

/// Bytes of a frame before received data: the kernel's headroom for XDP programs.
const HEADROOM: usize = 256;
/// Frames sent by one call in copy mode: the kernel's TX_BATCH_SIZE.
const SENT_PER_CALL: usize = 32;

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of a frame, 2,048 or 4,096.
    pub(super) frame_bytes: u32,
    /// Frames in all; a power of two.
    pub(super) frames: u32,
    /// Ask for zero-copy, or for copy mode?
    pub(super) zero_copy: bool,
}

impl Shape {
    /// Longest packet a frame takes, bytes.
    pub(super) fn longest(&self) -> usize {
        usize::try_from(self.frame_bytes).unwrap_or(0).saturating_sub(HEADROOM)
    }
}

/// Where the frames of a queue are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// On the list.
    pub free: usize,
    /// With the kernel for receiving, or received and not read.
    pub filled: usize,
    /// With ports, about to be written.
    pub held: usize,
    /// With the kernel for sending, or sent and not taken back.
    pub sending: usize,
}

impl Frames {
    /// All of them.
    pub fn total(&self) -> usize {
        [self.free, self.filled, self.held, self.sending].iter().sum()
    }
}

/// What the ports of one queue share.
pub(super) struct Queue {
    umem: Umem,
    shared: Mutex<Shared>,
}

struct Shared {
    fill: FillQueue,
    comp: CompQueue,
    free: Vec<FrameDesc>,
    back: Vec<FrameDesc>,
    counts: Frames,
}

impl Queue {
    /// Opens one socket for each worker on queue `queue` of an interface.
    pub(super) fn open(
        interface: &str,
        queue: u32,
        workers: usize,
        shape: Shape,
    ) -> io::Result<(Arc<Queue>, Vec<Port>)> {
        let rings = QueueSize::new(shape.frames).map_err(io::Error::other)?;
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(shape.frame_bytes).map_err(io::Error::other)?)
            .fill_queue_size(rings)
            .comp_queue_size(rings)
            .build()
            .map_err(io::Error::other)?;
        let count = NonZeroU32::new(shape.frames).ok_or(io::ErrorKind::InvalidInput)?;
        let (umem, free) = Umem::new(config, count, false).map_err(cause)?;
        let mode = if shape.zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
        let config = SocketConfig::builder()
            .rx_queue_size(rings)
            .tx_queue_size(rings)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let name: Interface = interface.parse().map_err(io::Error::other)?;
        let mut pair = None;
        let mut ends = Vec::with_capacity(workers);
        for _ in 0..workers {
            // SAFETY: the sockets of this queue share the one pair of rings that the first of them
            // brings, as libxdp wants it; no other pair exists for this UMEM.
            let (tx, rx, rings) =
                unsafe { Socket::new(config, &umem, &name, queue) }.map_err(cause)?;
            pair = pair.or(rings);
            ends.push((tx, rx));
        }
        let (fill, comp) = pair.ok_or(io::ErrorKind::InvalidInput)?;
        let counts = Frames { free: free.len(), ..Frames::default() };
        let back = vec![FrameDesc::default(); BATCH];
        let shared = Mutex::new(Shared { fill, comp, free, back, counts });
        let queue = Arc::new(Queue { umem, shared });
        queue.shared.lock().fill_half();
        let port = |(tx, rx)| Port::new(Arc::clone(&queue), tx, rx, shape);
        let ports = ends.into_iter().map(port).collect();
        Ok((queue, ports))
    }

    /// Where the frames are now.
    pub(super) fn frames(&self) -> Frames {
        let mut shared = self.shared.lock();
        shared.reclaim();
        shared.counts
    }
}

/// The cause of an error of xsk-rs; its own text says less than the kernel's.
fn cause(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    let source = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

impl Shared {
    /// Gives half of the frames to the kernel to receive into; the others are for sending.
    fn fill_half(&mut self) {
        let half = self.free.len() / 2;
        let frames = self.free.split_off(half);
        self.counts.free = self.free.len();
        // SAFETY: these frames are of this queue's UMEM and, just taken from the list of the free,
        // nowhere else.
        let taken = unsafe { self.fill.produce(&frames) };
        self.counts.filled = taken;
        let rest = frames.into_iter().skip(taken);
        self.free.extend(rest);
        self.counts.free = self.free.len();
    }

    /// Takes sent frames back.
    fn reclaim(&mut self) {
        loop {
            // SAFETY: the ring is of this queue; what it yields is described by nothing else.
            let sent = unsafe { self.comp.consume(&mut self.back) };
            self.free.extend(self.back.iter().take(sent));
            self.counts.sending = self.counts.sending.saturating_sub(sent);
            self.counts.free = self.free.len();
            if sent < self.back.len() {
                return;
            }
        }
    }
}

/// The socket of one worker on one queue.
pub(super) struct Port {
    queue: Arc<Queue>,
    rx: RxQueue,
    tx: TxQueue,
    shape: Shape,
    received: Vec<FrameDesc>,
    /// Free frames taken from the shared list.
    spare: Vec<FrameDesc>,
    /// Written frames that are not in the ring yet.
    written: Vec<FrameDesc>,
    /// In the ring, and perhaps not taken by the kernel yet.
    unkicked: bool,
}

impl Port {
    fn new(queue: Arc<Queue>, tx: TxQueue, rx: RxQueue, shape: Shape) -> Port {
        let received = vec![FrameDesc::default(); BATCH];
        let (spare, written) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        Port { queue, rx, tx, shape, received, spare, written, unkicked: false }
    }

    /// For the map of sockets and for waiting.
    pub(super) fn fd(&self) -> RawFd {
        self.rx.fd().as_raw_fd()
    }

    /// Packets the kernel dropped here: no room in the ring, no frame to receive into, or too long.
    pub(super) fn dropped(&self) -> u64 {
        let statistics = self.rx.fd().xdp_statistics();
        statistics.map_or(0, |s| s.rx_dropped().saturating_add(s.rx_ring_full()))
    }

    /// Shows up to [`BATCH`] received packets to `each`; returns how many.
    pub(super) fn receive(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        // SAFETY: the ring is this port's own; its frames are the queue's.
        let count = unsafe { self.rx.consume(&mut self.received) };
        let Some(frames) = self.received.get(..count).filter(|frames| !frames.is_empty()) else {
            return 0;
        };
        for frame in frames {
            // SAFETY: the kernel has written this frame and handed it over; until it is given
            // back below, nobody writes to it, and the slice does not outlive the call of `each`.
            let data = unsafe { self.queue.umem.data(frame) };
            each(data.contents());
        }
        let mut shared = self.queue.shared.lock();
        // SAFETY: these frames were received on this queue and are described nowhere else.
        let given = unsafe { shared.fill.produce(frames) };
        if given < count {
            shared.free.extend(frames.iter().skip(given));
            shared.counts.filled = shared.counts.filled.saturating_sub(count.saturating_sub(given));
            shared.counts.free = shared.free.len();
        }
        if shared.fill.needs_wakeup() {
            // An error here is one of the device; the next send or the supervision meets it.
            let _ = shared.fill.wakeup(self.rx.fd_mut(), 0);
        }
        count
    }

    /// Writes one packet of `parts` into a frame; false where there is no frame, no room in the
    /// ring, or the packet is too long for a frame.
    pub(super) fn write(&mut self, parts: [&[u8]; 2]) -> bool {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > self.shape.longest() || (self.spare.is_empty() && !self.take_frames()) {
            return false;
        }
        let waiting = u32::try_from(self.written.len()).unwrap_or(u32::MAX).saturating_add(1);
        if self.tx.nb_free(waiting) < waiting {
            return false;
        }
        let Some(mut frame) = self.spare.pop() else { return false };
        {
            // SAFETY: a free frame is described nowhere else, and the kernel does not have it.
            let mut data = unsafe { self.queue.umem.data_mut(&mut frame) };
            let mut cursor = data.cursor();
            cursor.set_pos(0);
            // Cannot fail: the length was compared with the frame's.
            let _ = parts.iter().try_for_each(|part| cursor.write_all(part));
        }
        self.written.push(frame);
        true
    }

    fn take_frames(&mut self) -> bool {
        let mut shared = self.queue.shared.lock();
        if shared.free.len() < BATCH {
            shared.reclaim();
        }
        let keep = shared.free.len().saturating_sub(BATCH);
        self.spare.extend(shared.free.drain(keep..));
        shared.counts.free = shared.free.len();
        shared.counts.held = shared.counts.held.saturating_add(self.spare.len());
        !self.spare.is_empty()
    }

    /// Hands what was written to the kernel and has it sent. An error is one of the device.
    pub(super) fn send(&mut self) -> io::Result<()> {
        if !self.written.is_empty() {
            let count = self.written.len();
            let mut shared = self.queue.shared.lock();
            // SAFETY: these frames are of this queue's UMEM, written by this port, and described
            // nowhere else.
            let sent = unsafe { self.tx.produce(&self.written) };
            shared.counts.held = shared.counts.held.saturating_sub(count);
            shared.counts.sending = shared.counts.sending.saturating_add(sent);
            // There was room for all when they were written; were there none, they'd be lost like
            // packets on a wire, but never the frames.
            shared.free.extend(self.written.drain(..).skip(sent));
            shared.counts.free = shared.free.len();
            self.unkicked = true;
        }
        if self.unkicked { self.kick() } else { Ok(()) }
    }

    /// Is there something that the kernel has not taken yet?
    pub(super) fn has_work(&self) -> bool {
        self.unkicked
    }

    /// Wakes the kernel until it has taken all: it sends a bounded number a call in copy mode, and
    /// says EAGAIN while there is more. What it cannot take now waits for the next call.
    fn kick(&mut self) -> io::Result<()> {
        let size = self.shape.frames;
        let calls = usize::try_from(size).unwrap_or(0) / SENT_PER_CALL;
        for _ in 0..calls.saturating_add(1) {
            let before = self.tx.nb_free_exact();
            if before >= size || !self.tx.needs_wakeup() {
                self.unkicked = before < size;
                break;
            }
            self.tx.wakeup()?;
            if self.tx.nb_free_exact() == before {
                // No completion room, or the device is down.
                self.queue.shared.lock().reclaim();
                break;
            }
        }
        self.unkicked = self.tx.nb_free_exact() < size;
        Ok(())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut shared = self.queue.shared.lock();
        let held = self.spare.len().saturating_add(self.written.len());
        shared.counts.held = shared.counts.held.saturating_sub(held);
        shared.free.append(&mut self.spare);
        shared.free.append(&mut self.written);
        shared.counts.free = shared.free.len();
    }
}
