//! The rules of sending against a kernel that follows a script.

use super::*;
use crate::provider::udp_flow;
use std::collections::VecDeque;
use viaduct_engine::Token;

/// Answers each call with the next of `script` (an error number, or how many payloads it takes);
/// takes everything when the script has ended. Remembers the datagrams as a peer would see them.
#[derive(Default)]
struct Scripted {
    script: VecDeque<Result<usize, i32>>,
    datagrams: Vec<(u16, Vec<u8>)>,
    joined: usize,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Result<usize, i32>>) -> Scripted {
        Scripted { script: script.into_iter().collect(), ..Scripted::default() }
    }
}

impl Kernel for Scripted {
    fn send<'a>(&mut self, payloads: &mut dyn Iterator<Item = Payload<'a>>) -> io::Result<usize> {
        let room = self.script.pop_front().unwrap_or(Ok(BATCH));
        let mut taken = 0;
        for payload in payloads.take(room.map_err(io::Error::from_raw_os_error)?) {
            taken += 1;
            self.joined += usize::from(payload.segment.is_some());
            let size = payload.segment.map_or(payload.bytes.len().max(1), usize::from);
            let port = payload.remote.port();
            if payload.bytes.is_empty() {
                self.datagrams.push((port, Vec::new()));
            }
            self.datagrams.extend(payload.bytes.chunks(size).map(|part| (port, part.to_vec())));
        }
        Ok(taken)
    }
}

fn local() -> SocketAddr {
    ([192, 0, 2, 1], 5060).into()
}

fn push(batch: &mut SendBatch, port: u16, length: usize) {
    let count = batch.len();
    let flow = udp_flow(local(), ([192, 0, 2, 2], port).into());
    batch.push(flow, &vec![count as u8; length], Token(count as u64));
}

struct Outcome {
    failed: Vec<u64>,
    counters: UdpCounters,
    segment_limit: usize,
}

fn flush(kernel: &mut Scripted, batch: &mut SendBatch, config: UdpConfig) -> Outcome {
    let mut flusher = Flusher::new(local(), config);
    let mut counters = UdpCounters::default();
    let mut failed = Vec::new();
    flusher.flush(kernel, batch, &mut counters, &mut |failure| failed.push(failure.token.0));
    Outcome { failed, counters, segment_limit: flusher.segment_limit }
}

fn ports(kernel: &Scripted) -> Vec<u16> {
    kernel.datagrams.iter().map(|(port, _)| *port).collect()
}

#[test]
fn equal_neighbours_to_one_peer_are_joined_and_a_shorter_one_ends_the_run() {
    let mut batch = SendBatch::new();
    for (port, length) in [(1, 300), (1, 300), (1, 200), (1, 200), (2, 200), (2, 0), (2, 201)] {
        push(&mut batch, port, length);
    }
    let mut kernel = Scripted::default();
    let outcome = flush(&mut kernel, &mut batch, UdpConfig::default());
    let lengths: Vec<_> = kernel.datagrams.iter().map(|(port, d)| (*port, d.len())).collect();
    let expected = [(1, 300), (1, 300), (1, 200), (1, 200), (2, 200), (2, 0), (2, 201)];
    assert_eq!(lengths, expected);
    assert_eq!((kernel.joined, outcome.counters.segmented), (1, 3));
    assert!(batch.is_empty());
}

#[test]
fn runs_respect_the_limits_of_the_kernel() {
    let mut batch = SendBatch::new();
    (0..130).for_each(|_| push(&mut batch, 1, 1000));
    (0..4).for_each(|_| push(&mut batch, 1, SEGMENT_BYTES + 1));
    let mut kernel = Scripted::default();
    let outcome = flush(&mut kernel, &mut batch, UdpConfig::default());
    assert_eq!((kernel.datagrams.len(), kernel.joined), (134, 3), "64 + 64 + 2, then singles");
    assert_eq!(outcome.counters.sent, 134);
}

#[test]
fn a_refused_segmentation_is_sent_singly_and_stays_off() {
    for (code, limit) in [(libc::EIO, 0), (libc::ENOPROTOOPT, 0), (libc::EINVAL, 499)] {
        let mut batch = SendBatch::new();
        (0..3).for_each(|_| push(&mut batch, 1, 500));
        let mut kernel = Scripted::new([Err(code)]);
        let outcome = flush(&mut kernel, &mut batch, UdpConfig::default());
        assert_eq!((kernel.datagrams.len(), kernel.joined), (3, 0), "errno {code}");
        assert_eq!((outcome.segment_limit, outcome.failed.len()), (limit, 0));
    }
}

#[test]
fn a_datagram_the_kernel_refuses_is_reported_and_the_others_go_out() {
    let mut batch = SendBatch::new();
    for port in 1..=5 {
        push(&mut batch, port, 100 * usize::from(port));
    }
    let refused = libc::EMSGSIZE;
    let mut kernel = Scripted::new([Ok(2), Err(refused)]);
    let outcome = flush(&mut kernel, &mut batch, UdpConfig::default());
    assert_eq!(ports(&kernel), [1, 2, 4, 5]);
    assert_eq!((outcome.failed, outcome.counters.failed), (vec![2], 1));
}

#[test]
fn an_error_that_may_be_anothers_is_asked_again() {
    let refused = || Err(libc::ECONNREFUSED);
    let often = |n: u8| (0..n).map(|_| refused()).collect::<Vec<_>>();
    for (script, expected) in
        [(often(1), vec![]), (often(ATTEMPTS - 1), vec![]), (often(ATTEMPTS), vec![0])]
    {
        let mut batch = SendBatch::new();
        (1..=3).for_each(|port| push(&mut batch, port, 50));
        let mut kernel = Scripted::new(script);
        let outcome = flush(&mut kernel, &mut batch, UdpConfig::default());
        assert_eq!(kernel.datagrams.len(), 3 - expected.len());
        assert_eq!(outcome.failed, expected);
    }
}

#[test]
fn what_does_not_fit_waits_in_order_and_the_oldest_beyond_the_bound_are_dropped() {
    let config = UdpConfig { backlog_bytes: 250, segment: false, ..UdpConfig::default() };
    let mut batch = SendBatch::new();
    (1..=5).for_each(|port| push(&mut batch, port, 100));
    let mut kernel = Scripted::new([Ok(1), Err(libc::EAGAIN)]);
    let outcome = flush(&mut kernel, &mut batch, config);
    assert_eq!(ports(&kernel), [1]);
    assert_eq!((outcome.counters.dropped, outcome.counters.blocked), (2, 1));
    push(&mut batch, 6, 100);
    let outcome = flush(&mut kernel, &mut batch, config);
    assert_eq!(ports(&kernel), [1, 4, 5, 6]);
    assert!(outcome.failed.is_empty() && batch.is_empty());
}

#[test]
fn no_memory_counts_as_loss_on_the_wire() {
    let mut batch = SendBatch::new();
    (1..=2).for_each(|port| push(&mut batch, port, 100));
    let mut kernel = Scripted::new([Err(libc::ENOBUFS)]);
    let outcome = flush(&mut kernel, &mut batch, UdpConfig::default());
    assert_eq!((ports(&kernel), outcome.counters.lost), (vec![2], 1));
    assert!(outcome.failed.is_empty());
}

#[test]
fn messages_of_other_providers_are_left_alone() {
    let mut batch = SendBatch::new();
    let mut other = udp_flow(local(), ([192, 0, 2, 2], 9).into());
    other.transport = Transport::Tcp;
    push(&mut batch, 1, 10);
    batch.push(other, b"stream", Token(0));
    other.transport = Transport::Udp;
    other.local.set_port(5070);
    batch.push(other, b"other socket", Token(0));
    push(&mut batch, 1, 10);
    let mut kernel = Scripted::default();
    flush(&mut kernel, &mut batch, UdpConfig::default());
    assert_eq!(kernel.datagrams.len(), 2);
    let left: Vec<_> = batch.iter().map(|message| message.bytes.to_vec()).collect();
    assert_eq!(left, [b"stream".to_vec(), b"other socket".to_vec()]);
}
