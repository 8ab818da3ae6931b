//! The rules of sending a batch: runs, retries, refusals, and what waits.
//!
//! A *run* is one datagram, or several consecutive ones to one peer with equal length (the last may
//! be shorter) that the kernel cuts apart again (UDP_SEGMENT).

use super::{UdpConfig, UdpCounters};
use crate::mmsg::Payload;
use crate::provider::{BATCH, Outgoing, SendBatch, SendFailure};
use std::io;
use std::net::SocketAddr;
use viaduct_engine::Transport;

/// Most datagrams in one run: UDP_MAX_SEGMENTS of kernels before 6.9.
const RUN_SEGMENTS: usize = 64;
/// Most bytes in one run: what an IP packet can carry, with room for headers.
const RUN_BYTES: usize = 65_000;
/// Longest datagram in a run of several. The kernel refuses segments above the path's MTU, because
/// it will not both segment and fragment.
const SEGMENT_BYTES: usize = 1_400;

/// Errors in a row that are taken for a datagram's own. Those of others come in between two calls:
/// one is usual where a peer is down, several are not.
const ATTEMPTS: u8 = 4;

/// Takes runs of datagrams; the seam at which tests put refusals.
pub(super) trait Kernel {
    /// Sends in order and returns how many payloads were taken; an error is about the first.
    fn send<'a>(&mut self, payloads: &mut dyn Iterator<Item = Payload<'a>>) -> io::Result<usize>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Index of the first message in the batch.
    first: usize,
    messages: usize,
    remote: SocketAddr,
    start: usize,
    end: usize,
    /// Length of each datagram but the last, where there are several.
    segment: usize,
}

impl Run {
    fn is_joined(&self) -> bool {
        self.messages > 1
    }
}

/// Sends batches through one socket.
pub(super) struct Flusher {
    local: SocketAddr,
    backlog_bytes: usize,
    /// Longest segment the kernel has not refused yet; 0: one datagram a run.
    segment_limit: usize,
    refused_before: bool,
    /// Message that has got errors, and how many; they may have been other datagrams'.
    suspect: (usize, u8),
    runs: Vec<Run>,
}

impl Flusher {
    pub(super) fn new(local: SocketAddr, config: UdpConfig) -> Flusher {
        Flusher {
            local,
            backlog_bytes: config.backlog_bytes,
            segment_limit: if config.segment { SEGMENT_BYTES } else { 0 },
            refused_before: false,
            suspect: (0, 0),
            runs: Vec::with_capacity(BATCH),
        }
    }

    pub(super) fn flush(
        &mut self,
        kernel: &mut dyn Kernel,
        batch: &mut SendBatch,
        counters: &mut UdpCounters,
        failed: &mut dyn FnMut(SendFailure<'_>),
    ) -> usize {
        let before = counters.sent;
        let mut from = 0;
        self.suspect = (0, 0);
        loop {
            self.plan(batch, from);
            let Some(first) = self.runs.first().copied() else { break };
            counters.send_calls += 1;
            match self.offer(kernel, batch) {
                Ok(taken) => match self.mark(batch, taken, counters) {
                    Some(next) => from = next,
                    None => break,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    counters.blocked += 1;
                    self.trim(batch, counters);
                    break;
                }
                Err(error) => {
                    if self.is_final(first, &error) {
                        give_up(first, &error, batch, counters, failed);
                    }
                }
            }
        }
        batch.compact();
        usize::try_from(counters.sent.saturating_sub(before)).unwrap_or(usize::MAX)
    }

    /// Fills `runs` with what comes next from message `from` on.
    fn plan(&mut self, batch: &mut SendBatch, from: usize) {
        self.runs.clear();
        let (_, entries) = batch.parts();
        for (index, entry) in entries.iter().enumerate().skip(from) {
            if entry.done || !is_ours(entry, self.local) {
                continue;
            }
            if let Some(run) = self.runs.last_mut()
                && joins(run, index, entry, self.segment_limit)
            {
                run.messages += 1;
                run.end = entry.end;
                continue;
            }
            if self.runs.len() == BATCH {
                break;
            }
            self.runs.push(Run {
                first: index,
                messages: 1,
                remote: entry.flow.remote,
                start: entry.start,
                end: entry.end,
                segment: entry.end.saturating_sub(entry.start),
            });
        }
    }

    fn offer(&self, kernel: &mut dyn Kernel, batch: &mut SendBatch) -> io::Result<usize> {
        let (arena, _) = batch.parts();
        let mut payloads = self.runs.iter().map(|run| Payload {
            bytes: arena.get(run.start..run.end).unwrap_or_default(),
            remote: run.remote,
            segment: u16::try_from(run.segment).ok().filter(|_| run.is_joined()),
        });
        kernel.send(&mut payloads)
    }

    /// Marks the first `taken` runs as sent; returns the message to go on with.
    fn mark(
        &self,
        batch: &mut SendBatch,
        taken: usize,
        counters: &mut UdpCounters,
    ) -> Option<usize> {
        for run in self.runs.iter().take(taken) {
            finish(batch, *run);
            counters.sent += run.messages as u64;
            if run.is_joined() {
                counters.segmented += run.messages as u64;
            }
        }
        let last = self.runs.get(taken.checked_sub(1)?)?;
        Some(last.first.saturating_add(last.messages))
    }

    /// Decides about the error of a run: true: it is the fate of these datagrams; false: try again
    /// (on its own, without segmentation, or once more).
    fn is_final(&mut self, run: Run, error: &io::Error) -> bool {
        let code = error.raw_os_error().unwrap_or(0);
        if run.is_joined() {
            let limit = match code {
                // No checksum offload on the way, or a kernel without UDP_SEGMENT.
                libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP => Some(0),
                // A segment above this path's MTU.
                libc::EINVAL | libc::EMSGSIZE => Some(run.segment.saturating_sub(1)),
                _ => None,
            };
            if let Some(limit) = limit {
                self.lower_segment_limit(limit, error);
                return false;
            }
        }
        let own_fault = matches!(code, libc::EMSGSIZE | libc::EINVAL | libc::ENOBUFS);
        let before = if self.suspect.0 == run.first { self.suspect.1 } else { 0 };
        self.suspect = (run.first, before.saturating_add(1));
        // An ICMP error of an earlier datagram is told to whoever sends next: ask again.
        own_fault || self.suspect.1 >= ATTEMPTS
    }

    fn lower_segment_limit(&mut self, limit: usize, error: &io::Error) {
        self.segment_limit = limit;
        if !self.refused_before {
            self.refused_before = true;
            tracing::info!(local = %self.local, %error, limit, "UDP_SEGMENT refused");
        }
    }

    /// Drops the oldest of our messages until those that wait are within the bound.
    fn trim(&self, batch: &mut SendBatch, counters: &mut UdpCounters) {
        let (_, entries) = batch.parts();
        let mut waiting: usize = 0;
        for entry in entries.iter_mut().rev() {
            if entry.done || !is_ours(entry, self.local) {
                continue;
            }
            waiting = waiting.saturating_add(entry.end.saturating_sub(entry.start));
            if waiting > self.backlog_bytes {
                entry.done = true;
                counters.dropped += 1;
            }
        }
    }
}

fn is_ours(entry: &Outgoing, local: SocketAddr) -> bool {
    entry.flow.transport == Transport::Udp && entry.flow.local == local
}

/// May this message be the next datagram of the run?
fn joins(run: &Run, index: usize, entry: &Outgoing, segment_limit: usize) -> bool {
    let length = entry.end.saturating_sub(entry.start);
    let joined = run.end.saturating_sub(run.start);
    let full = run.segment.saturating_mul(run.messages) == joined;
    full && length > 0
        && length <= run.segment
        && run.segment <= segment_limit
        && run.messages < RUN_SEGMENTS
        && joined.saturating_add(length) <= RUN_BYTES
        && run.end == entry.start
        && run.first.saturating_add(run.messages) == index
        && run.remote == entry.flow.remote
}

fn finish(batch: &mut SendBatch, run: Run) {
    let (_, entries) = batch.parts();
    for entry in entries.iter_mut().skip(run.first).take(run.messages) {
        entry.done = true;
    }
}

/// Takes the run's datagrams out, reporting them unless they count as lost.
fn give_up(
    run: Run,
    error: &io::Error,
    batch: &mut SendBatch,
    counters: &mut UdpCounters,
    failed: &mut dyn FnMut(SendFailure<'_>),
) {
    finish(batch, run);
    if error.raw_os_error() == Some(libc::ENOBUFS) {
        counters.lost += run.messages as u64;
        return;
    }
    counters.failed += run.messages as u64;
    let (arena, entries) = batch.parts();
    for entry in entries.iter().skip(run.first).take(run.messages) {
        failed(SendFailure {
            flow: entry.flow,
            token: entry.token,
            bytes: arena.get(entry.start..entry.end).unwrap_or_default(),
            error: error.kind(),
        });
    }
}

#[cfg(test)]
#[path = "flush_tests.rs"]
mod tests;
