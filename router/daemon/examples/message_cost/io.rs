//! What it costs to receive a datagram and to send one, by the router's own sockets over loopback: the
//! part of a message that scan, engine and policy have no hand in.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket as Phone};
use std::time::Instant;

use viaduct_engine::Token;
use viaduct_transport::{
    DatagramRx, DatagramTx, RecvBatch, SendBatch, SendFailure, UdpConfig, UdpSocket,
};

const ROUNDS: usize = 2000;
/// Datagrams that wait together, each of another phone: a server that has something to do finds some
/// each time, and what they share of a system call is little beside what each costs.
const PHONES: usize = 16;
/// About what a REGISTER and the messages of a call have.
const DATAGRAM: [u8; 450] = [b'x'; 450];

/// ns a datagram, of one thread. What sending costs includes the way to the receiver's socket, which on
/// loopback is the sender's work.
#[derive(Clone, Copy)]
pub(crate) struct Io {
    pub(crate) receive_ns: f64,
    pub(crate) send_ns: f64,
}

impl Io {
    /// The mean of those rounds that cost least.
    pub(crate) fn measure() -> Io {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = UdpSocket::open(any, UdpConfig::default()).expect("a socket");
        let open = |_| Phone::bind(any).expect("a phone's socket");
        let phones: Vec<Phone> = (0..PHONES).map(open).collect();
        let (mut received, mut sent) = (RecvBatch::new(), SendBatch::new());
        let mut round = || round(&mut server, &phones, &mut received, &mut sent);
        round();
        let mut rounds: Vec<Io> = (0..ROUNDS).map(|_| round()).collect();
        rounds.sort_by(|a, b| (a.receive_ns + a.send_ns).total_cmp(&(b.receive_ns + b.send_ns)));
        rounds.truncate(ROUNDS.div_ceil(10));
        let mean = |ns: fn(&Io) -> f64| rounds.iter().map(ns).sum::<f64>() / rounds.len() as f64;
        Io { receive_ns: mean(|io| io.receive_ns), send_ns: mean(|io| io.send_ns) }
    }
}

/// Each phone sends one and is answered.
fn round(
    server: &mut UdpSocket,
    phones: &[Phone],
    received: &mut RecvBatch,
    sent: &mut SendBatch,
) -> Io {
    for phone in phones {
        phone.send_to(&DATAGRAM, server.local_addr()).expect("sent");
    }
    let begun = Instant::now();
    let count = server.recv(received).expect("received");
    let receive_ns = begun.elapsed().as_nanos() as f64 / PHONES as f64;
    // Over loopback what is sent has arrived.
    assert_eq!(count, PHONES, "datagrams received");
    for (flow, bytes) in received.iter() {
        sent.push(flow, bytes, Token(0));
    }
    let begun = Instant::now();
    server.flush(sent, &mut |failed: SendFailure<'_>| panic!("not sent: {:?}", failed.error));
    let send_ns = begun.elapsed().as_nanos() as f64 / PHONES as f64;
    assert!(sent.is_empty(), "datagrams left");
    for phone in phones {
        phone.recv(&mut [0; DATAGRAM.len()]).expect("an answer");
    }
    Io { receive_ns, send_ns }
}
