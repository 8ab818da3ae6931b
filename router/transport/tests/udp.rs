//! UDP over loopback: batches, runs, families, failures.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use mio::{Events, Poll};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use viaduct_engine::{ConnId, Flow, Token, Transport};
use viaduct_transport::{
    DatagramRx, DatagramTx, RecvBatch, SendBatch, UdpConfig, UdpSocket, UdpSockets,
};

const FAMILIES: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
const PATIENCE: Duration = Duration::from_secs(20);

fn flow(local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow { transport: Transport::Udp, local, remote, conn: ConnId::NONE }
}

/// A peer of plain sockets, so that nothing is tested only against itself.
fn plain(local: &str) -> std::net::UdpSocket {
    let socket = std::net::UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket
}

fn no_failure(failure: viaduct_transport::SendFailure<'_>) {
    panic!("not sent: {failure:?}");
}

/// Bytes that differ from their neighbours in length and content.
fn text(number: usize) -> Vec<u8> {
    let length = match number % 7 {
        0 => 0,
        1..=3 => 700,
        4 => 200 + number % 300,
        5 => 1_400,
        _ => 3_000 + number % 5_000,
    };
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(bytes.len() + length, number as u8);
    bytes
}

/// Receives until `count` datagrams are there, waiting by poll.
fn collect(socket: &mut UdpSocket, count: usize) -> Vec<(Flow, Vec<u8>)> {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    poll.registry().register(socket, mio::Token(0), mio::Interest::READABLE).unwrap();
    let (mut batch, mut all) = (RecvBatch::new(), Vec::new());
    let end = Instant::now() + PATIENCE;
    while all.len() < count {
        assert!(Instant::now() < end, "{} of {count} datagrams came", all.len());
        poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
        loop {
            let received = socket.recv(&mut batch).unwrap();
            assert_eq!(received, batch.len());
            all.extend(batch.iter().map(|(flow, bytes)| (flow, bytes.to_vec())));
            if batch.is_drained() {
                break;
            }
        }
    }
    poll.registry().deregister(socket).unwrap();
    all
}

#[test]
fn a_batch_comes_in_with_the_flow_of_each_datagram() {
    for family in FAMILIES {
        for join in [false, true] {
            let config = UdpConfig { join, ..UdpConfig::default() };
            let mut socket = UdpSocket::open(family.parse().unwrap(), config).unwrap();
            let local = socket.local_addr();
            let peers = [plain(family), plain(family), plain(family)];
            for number in 0..100 {
                peers[number % 3].send_to(&text(number), local).unwrap();
            }
            let all = collect(&mut socket, 100);
            for (number, (came_by, bytes)) in all.iter().enumerate() {
                let remote = peers[number % 3].local_addr().unwrap();
                assert_eq!((*came_by, bytes), (flow(local, remote), &text(number)));
            }
            assert_eq!(socket.counters().received, 100);
        }
    }
}

#[test]
fn a_thousand_mixed_datagrams_arrive_in_order_with_and_without_segmentation() {
    for family in FAMILIES {
        for segment in [true, false] {
            let config = UdpConfig { segment, ..UdpConfig::default() };
            let mut socket = UdpSocket::open(family.parse().unwrap(), config).unwrap();
            let local = socket.local_addr();
            let peers: Vec<_> = (0..5).map(|_| plain(family)).collect();
            let mut batch = SendBatch::new();
            // Three in a row to each peer, so that there are runs to join.
            let peer_of = |number: usize| (number / 3) % 5;
            let mut failures = 0;
            for number in 0..1_000 {
                let remote = peers[peer_of(number)].local_addr().unwrap();
                batch.buffer().extend_from_slice(&text(number));
                batch.commit(flow(local, remote), Token(number as u64));
                if batch.len() == 100 {
                    socket.flush(&mut batch, &mut |_| failures += 1);
                    drain(&peers, &peer_of, number - 99..=number);
                }
            }
            assert_eq!((failures, batch.len()), (0, 0));
            let counters = socket.counters();
            assert_eq!((counters.sent, counters.failed), (1_000, 0));
            assert_eq!(counters.segmented > 300, segment, "{counters:?}");
        }
    }
}

fn drain(
    peers: &[std::net::UdpSocket],
    peer_of: &dyn Fn(usize) -> usize,
    numbers: std::ops::RangeInclusive<usize>,
) {
    let mut buffer = [0; 10_000];
    for number in numbers {
        let (length, _) = peers[peer_of(number)].recv_from(&mut buffer).unwrap();
        assert!(buffer[..length] == text(number), "datagram {number} differs");
    }
}

#[test]
fn segmented_runs_and_single_datagrams_carry_the_same_bytes_to_a_joining_receiver() {
    for family in FAMILIES {
        for segment in [true, false] {
            let join = UdpConfig { join: true, ..UdpConfig::default() };
            let mut far = UdpSocket::open(family.parse().unwrap(), join).unwrap();
            let config = UdpConfig { segment, ..UdpConfig::default() };
            let mut near = UdpSocket::open(family.parse().unwrap(), config).unwrap();
            let way = flow(near.local_addr(), far.local_addr());
            let mut batch = SendBatch::new();
            let texts: Vec<Vec<u8>> =
                (0..150).map(|n| vec![n as u8; if n % 40 == 39 { 77 } else { 400 }]).collect();
            for bytes in &texts {
                batch.push(way, bytes, Token(0));
            }
            assert_eq!(near.flush(&mut batch, &mut no_failure), 150);
            let all = collect(&mut far, 150);
            assert!(all.iter().map(|(_, bytes)| bytes).eq(&texts), "segment {segment}");
            assert!(all.iter().all(|(came_by, _)| came_by.remote == near.local_addr()));
        }
    }
}

#[test]
fn a_datagram_that_cannot_go_does_not_keep_the_others() {
    for family in FAMILIES {
        let mut socket = UdpSocket::open(family.parse().unwrap(), UdpConfig::default()).unwrap();
        let peer = plain(family);
        let closed = plain(family).local_addr().unwrap();
        let way = flow(socket.local_addr(), peer.local_addr().unwrap());
        let mut batch = SendBatch::new();
        batch.push(way, b"first", Token(1));
        batch.push(way, &vec![0; 65_530], Token(2)); // more than a datagram can carry
        batch.push(flow(way.local, closed), b"nobody listens", Token(3));
        batch.push(way, b"second", Token(4));
        batch.push(Flow { remote: "192.0.2.1:0".parse().unwrap(), ..way }, b"port 0", Token(5));
        batch.push(way, b"third", Token(6));
        let mut failed = BTreeMap::new();
        socket.flush(&mut batch, &mut |failure| {
            failed.insert(failure.token.0, failure.bytes.len());
        });
        assert_eq!(failed, BTreeMap::from([(2, 65_530), (5, 6)]));
        for expected in [&b"first"[..], b"second", b"third"] {
            let mut buffer = [0; 100];
            let (length, _) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected);
        }
    }
}

#[test]
fn each_datagram_leaves_by_the_socket_of_its_local_address() {
    let addrs = FAMILIES.map(|family| family.parse::<SocketAddr>().unwrap());
    let mut sockets = UdpSockets::open(&addrs, UdpConfig::default()).unwrap();
    let locals: Vec<_> = sockets.iter().map(UdpSocket::local_addr).collect();
    let peers = FAMILIES.map(plain);
    let mut batch = SendBatch::new();
    for number in 0..20 {
        let (local, peer) = (locals[number % 2], &peers[number % 2]);
        batch.push(flow(local, peer.local_addr().unwrap()), &[number as u8], Token(0));
    }
    let stranger = SocketAddr::new(IpAddr::from([127, 0, 0, 9]), 5060);
    batch.push(flow(stranger, peers[0].local_addr().unwrap()), b"x", Token(9));
    let mut failed = Vec::new();
    sockets.flush(&mut batch, &mut |failure| failed.push((failure.token, failure.error)));
    assert_eq!(failed, [(Token(9), std::io::ErrorKind::AddrNotAvailable)]);
    for number in 0..20 {
        let mut buffer = [0; 10];
        let (length, from) = peers[number % 2].recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&[number as u8][..], locals[number % 2]));
    }
}

#[test]
fn a_registered_socket_is_woken_and_large_buffers_are_asked_for() {
    let config = UdpConfig { buffer_bytes: 400_000, ..UdpConfig::default() };
    let mut sockets = UdpSockets::open(&["127.0.0.1:0".parse().unwrap()], config).unwrap();
    let mut poll = Poll::new().unwrap();
    sockets.register(poll.registry(), 7).unwrap();
    let socket = sockets.get_mut(0).unwrap();
    let granted = socket.buffer_sizes();
    assert!(granted.recv > 0 && granted.send > 0 && granted.recv <= 800_000, "{granted:?}");
    plain("127.0.0.1:0").send_to(b"INVITE", socket.local_addr()).unwrap();
    let mut events = Events::with_capacity(8);
    let end = Instant::now() + PATIENCE;
    let mut batch = RecvBatch::new();
    while batch.is_empty() {
        assert!(Instant::now() < end);
        poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
        if events.iter().any(|event| event.token() == mio::Token(7) && event.is_readable()) {
            socket.recv(&mut batch).unwrap();
        }
    }
    assert_eq!(batch.iter().next().unwrap().1, b"INVITE");
    assert_eq!(socket.recv(&mut batch).unwrap(), 0);
    assert!(batch.is_empty() && batch.is_drained());
}

#[test]
fn what_comes_back_is_told_with_its_first_lines_and_disturbs_nobody() {
    for family in FAMILIES {
        let mut socket = UdpSocket::open(family.parse().unwrap(), UdpConfig::default()).unwrap();
        let local = socket.local_addr();
        let living = plain(family);
        let dead = plain(family).local_addr().unwrap();
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        poll.registry().register(&mut socket, mio::Token(0), mio::Interest::READABLE).unwrap();
        let request = [&b"OPTIONS sip:a SIP/2.0\r\n"[..], &[b'x'; 900]].concat();
        let mut batch = SendBatch::new();
        // Errors of what went before are told to whoever sends next: nothing is lost by that.
        for _ in 0..20 {
            batch.push(flow(local, dead), &request, Token(1));
            batch.push(flow(local, living.local_addr().unwrap()), b"hello", Token(2));
        }
        socket.flush(&mut batch, &mut no_failure);
        assert!(batch.is_empty());
        let mut room = [0; 2000];
        for _ in 0..20 {
            assert_eq!(living.recv(&mut room).unwrap(), 5);
        }
        let (mut back, end) = (Vec::new(), Instant::now() + PATIENCE);
        while back.is_empty() {
            assert!(Instant::now() < end, "nothing came back");
            poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
            if events.iter().any(mio::event::Event::is_error) {
                socket.returned(&mut |flow, bytes| back.push((flow, bytes.to_vec())));
            }
        }
        for (from, bytes) in &back {
            assert_eq!(*from, flow(local, dead));
            assert!(bytes.len() >= 23 && request.starts_with(bytes), "{} bytes", bytes.len());
        }
        assert_eq!(socket.counters().returned, back.len() as u64);
        assert_eq!(socket.recv(&mut RecvBatch::new()).unwrap(), 0);
    }
}
