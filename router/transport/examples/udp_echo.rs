//! What a datagram costs: CPU time of an echo server's thread per packet on loopback, for each way
//! of calling the kernel. `cargo run --release -p viaduct-transport --example udp_echo [ROUNDS]`
//!
//! The generator sends 256 datagrams and waits for the echoes. *one peer, equal* lets runs of equal
//! datagrams form (UDP_SEGMENT); *16 peers, mixed* is nearer to phones. The generator's cost is not
//! counted; delivery to it is, because loopback delivers in the sender's context.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use mio::{Events, Interest, Poll};
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use viaduct_engine::{ConnId, Flow, Token, Transport};
use viaduct_transport::{DatagramRx, DatagramTx, RecvBatch, SendBatch, UdpConfig, UdpSocket};

const WINDOW: usize = 256;
const RUNS: usize = 3;

#[derive(Clone, Copy)]
enum Server {
    Plain,
    Batch { segment: bool, join: bool },
}

#[derive(Clone, Copy)]
struct Load {
    peers: usize,
    mixed: bool,
    segment: bool,
}

struct Cost {
    cpu_us: f64,
    packets: u64,
    per_call: f64,
}

fn cpu_us() -> f64 {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    spent.tv_sec() as f64 * 1e6 + spent.tv_nsec() as f64 / 1e3
}

fn config(segment: bool, join: bool) -> UdpConfig {
    UdpConfig { segment, join, ..UdpConfig::default() }
}

fn serve_plain(ready: &mpsc::Sender<SocketAddr>, stop: &AtomicBool) -> Cost {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let sizes = socket2::SockRef::from(&socket);
    sizes.set_recv_buffer_size(UdpConfig::default().buffer_bytes).unwrap();
    ready.send(socket.local_addr().unwrap()).unwrap();
    let (mut buffer, mut packets) = (vec![0; 65_536], 0);
    let before = cpu_us();
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], peer).unwrap();
            packets += 1;
        }
    }
    Cost { cpu_us: cpu_us() - before, packets, per_call: 1.0 }
}

fn serve_batch(
    config: UdpConfig,
    ready: &mpsc::Sender<SocketAddr>,
    stop: &AtomicBool,
) -> io::Result<Cost> {
    let mut socket = UdpSocket::open("127.0.0.1:0".parse().unwrap(), config)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut socket, mio::Token(0), Interest::READABLE)?;
    ready.send(socket.local_addr()).unwrap();
    let (mut rx, mut tx) = (RecvBatch::new(), SendBatch::new());
    let mut events = Events::with_capacity(8);
    let before = cpu_us();
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        loop {
            socket.recv(&mut rx)?;
            for (flow, bytes) in rx.iter() {
                tx.push(flow, bytes, Token(0));
            }
            socket.flush(&mut tx, &mut |failure| panic!("{failure:?}"));
            if rx.is_drained() {
                break;
            }
        }
    }
    let spent = cpu_us() - before;
    let counters = socket.counters();
    let calls = counters.recv_calls.max(1) as f64;
    Ok(Cost {
        cpu_us: spent,
        packets: counters.received,
        per_call: counters.received as f64 / calls,
    })
}

/// Sends windows of datagrams and takes the echoes back.
fn generate(load: Load, server: SocketAddr, rounds: usize) -> io::Result<()> {
    let open = |_| UdpSocket::open("127.0.0.1:0".parse().unwrap(), config(load.segment, false));
    let mut sockets: Vec<UdpSocket> = (0..load.peers).map(open).collect::<io::Result<_>>()?;
    let mut poll = Poll::new()?;
    for (number, socket) in sockets.iter_mut().enumerate() {
        poll.registry().register(socket, mio::Token(number), Interest::READABLE)?;
    }
    let (mut rx, mut tx) = (RecvBatch::new(), SendBatch::new());
    let mut events = Events::with_capacity(64);
    let text = [b'x'; 1_400];
    for _ in 0..rounds {
        for number in 0..WINDOW {
            let local = sockets[number % load.peers].local_addr();
            let length = if load.mixed { 300 + number * 97 % 900 } else { 600 };
            let flow =
                Flow { transport: Transport::Udp, local, remote: server, conn: ConnId::NONE };
            tx.push(flow, &text[..length], Token(0));
        }
        for socket in &mut sockets {
            socket.flush(&mut tx, &mut |failure| panic!("{failure:?}"));
        }
        let mut back = 0;
        while back < WINDOW {
            poll.poll(&mut events, Some(Duration::from_millis(200)))?;
            if events.is_empty() {
                break; // lost: the next window
            }
            for event in &events {
                while let Some(socket) = sockets.get_mut(event.token().0) {
                    back += socket.recv(&mut rx)?;
                    if rx.is_drained() {
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

fn measure(server: Server, load: Load, rounds: usize) -> Cost {
    let stop = Arc::new(AtomicBool::new(false));
    let (ready, address) = mpsc::channel();
    let seen = stop.clone();
    let thread = std::thread::spawn(move || match server {
        Server::Plain => serve_plain(&ready, &seen),
        Server::Batch { segment, join } => {
            serve_batch(config(segment, join), &ready, &seen).unwrap()
        }
    });
    generate(load, address.recv().unwrap(), rounds).unwrap();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap()
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(500);
    let servers = [
        ("recv_from + send_to", Server::Plain),
        ("batch of 64", Server::Batch { segment: false, join: false }),
        ("batch, UDP_SEGMENT", Server::Batch { segment: true, join: false }),
        ("batch, UDP_SEGMENT, UDP_GRO", Server::Batch { segment: true, join: true }),
    ];
    let loads = [
        ("one peer, equal", Load { peers: 1, mixed: false, segment: false }),
        ("one peer, equal, itself segmenting", Load { peers: 1, mixed: false, segment: true }),
        ("16 peers, mixed", Load { peers: 16, mixed: true, segment: false }),
    ];
    println!("{:<30}{:<36}{:>10}{:>12}", "server", "load", "us/packet", "per receive");
    for (load_name, load) in loads {
        for (server_name, server) in servers {
            let mut costs: Vec<Cost> = (0..RUNS).map(|_| measure(server, load, rounds)).collect();
            let each = |cost: &Cost| cost.cpu_us / cost.packets.max(1) as f64;
            costs.sort_by(|a, b| each(a).total_cmp(&each(b)));
            let median = &costs[RUNS / 2];
            let (cost, batch) = (each(median), median.per_call);
            println!("{server_name:<30}{load_name:<36}{cost:>10.2}{batch:>12.1}");
        }
    }
}
