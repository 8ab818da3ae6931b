//! TCP over loopback: framing, limits, reuse, deadlines. Time is a number the test sets.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "support/node.rs"]
mod node;

use node::{FAMILIES, Node, PATIENCE, Record, config, message};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use viaduct_engine::{ConnId, Flow, Token, Transport};
use viaduct_message::{Fault, Limits};
use viaduct_transport::{CloseReason, TcpConfig};

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the router did not close: {error}"),
    }
    bytes
}

#[test]
fn messages_come_out_whole_however_the_stream_is_chopped() {
    for family in FAMILIES {
        let mut node = Node::new(family, config());
        let texts: Vec<_> = (0..3).map(|n| message(n, 10 * n)).collect();
        let whole = texts.concat();
        let mut streams: Vec<_> = [1, 7, 64, whole.len()].map(|size| (size, node.dial())).into();
        for (size, stream) in &mut streams {
            stream.set_nodelay(true).unwrap();
            for chunk in whole.chunks(*size) {
                stream.write_all(chunk).unwrap();
                node.step();
            }
        }
        node.until(|node| node.messages().len() == 12);
        for (_, stream) in &streams {
            let peer = stream.local_addr().unwrap();
            let of_peer: Vec<_> =
                node.messages().into_iter().filter(|(flow, _)| flow.remote == peer).collect();
            assert!(of_peer.iter().map(|(_, bytes)| bytes).eq(&texts));
            assert!(of_peer.iter().all(|(flow, _)| flow.local == node.local));
            assert!(of_peer.iter().all(|(flow, _)| flow.conn.worker() == Node::WORKER));
        }
        assert_eq!(node.tcp.memory_bytes(), 0, "silent connections hold no buffer");
    }
}

#[test]
fn a_ping_is_answered_with_one_crlf_and_a_pong_with_nothing() {
    let mut node = Node::new(FAMILIES[0], config());
    let mut stream = node.dial();
    stream.write_all(b"\r\n\r\n").unwrap();
    node.until(|node| node.tcp.counters().pings == 1);
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\r\n");
    stream.write_all(&[b"\r\n", &message(1, 0)[..]].concat()).unwrap();
    node.until(|node| node.messages().len() == 1);
    stream.shutdown(Shutdown::Write).unwrap();
    node.settle();
    node.pass(config().linger_us);
    assert_eq!(read_all(&mut stream), b"", "nothing but the one answer");
    assert_eq!(node.tcp.counters().pings, 1);
}

#[test]
fn bad_framing_is_reported_answered_and_closed() {
    let good = String::from_utf8(message(1, 0)).unwrap();
    let cases = [
        good.replace("Content-Length: 0", "Content-Length: -1"),
        good.replace("Content-Length: 0", "Content-Length: 1e3"),
        good.replace("Content-Length: 0", "Content-Length: 99999999999999999999"),
        good.replace("Content-Length: 0", "Content-Length: 0\r\nl: 5"),
        good.replace("Content-Length: 0\r\n", ""),
    ];
    for bad in cases {
        let mut node = Node::new(FAMILIES[0], config());
        let mut stream = node.dial();
        stream.write_all(&[&message(0, 4)[..], bad.as_bytes(), b"left over"].concat()).unwrap();
        node.answer_malformed = Some(b"SIP/2.0 400 Bad\r\n\r\n");
        node.until(|node| node.records.iter().any(|r| matches!(r, Record::Malformed { .. })));
        assert_eq!(node.messages().len(), 1, "what came before it counts");
        let head = node.records.iter().find_map(|record| match record {
            Record::Malformed { bytes, .. } => Some(bytes.clone()),
            _ => None,
        });
        assert!(head.unwrap().starts_with(bad.as_bytes()), "the engine sees the head");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        node.step();
        assert_eq!(read_all(&mut stream), b"SIP/2.0 400 Bad\r\n\r\n");
        drop(stream);
        node.until(|node| node.tcp.is_empty());
        assert_eq!(node.closed(), [CloseReason::Malformed]);
    }
}

#[test]
fn a_refused_peer_that_stays_is_closed_after_the_linger_time() {
    let mut node = Node::new(FAMILIES[0], config());
    let mut stream = node.dial();
    stream.write_all(b"INVITE sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n").unwrap();
    node.until(|node| node.tcp.counters().malformed == 1);
    stream.write_all(&[b'x'; 1000]).unwrap();
    node.step();
    assert_eq!(node.tcp.len(), 1);
    node.pass(config().linger_us);
    assert_eq!(node.closed(), [CloseReason::Malformed]);
    assert_eq!(node.messages().len(), 0);
}

#[test]
fn a_message_above_the_limit_closes_before_it_is_held() {
    let limits = Limits { message_bytes: 2_000, ..Limits::default() };
    let mut node = Node::new(FAMILIES[0], TcpConfig { limits, ..config() });
    let mut announced = node.dial();
    announced.write_all(&message(1, 2_000)).unwrap();
    let mut endless = node.dial();
    endless.write_all(b"INVITE sip:a SIP/2.0\r\n").unwrap();
    let mut fields = 0;
    while node.tcp.counters().malformed < 2 {
        fields += 1;
        assert!(fields < 100_000, "no bound on the head");
        let _ = endless.write_all(b"X: y\r\n");
        node.step();
        assert!(node.tcp.memory_bytes() < 64 * 1024);
    }
    let faults: Vec<_> = node
        .records
        .iter()
        .filter_map(|r| if let Record::Malformed { fault, .. } = r { Some(*fault) } else { None })
        .collect();
    assert!(faults.contains(&Fault::TooLarge), "{faults:?}");
}

#[test]
fn requests_reuse_the_connection_we_opened_and_responses_come_back_over_it() {
    for family in FAMILIES {
        let mut node = Node::new(family, config());
        let peer = TcpListener::bind(family).unwrap();
        let to_peer = node.flow_to(peer.local_addr().unwrap());
        for number in 0..3 {
            node.batch.push(to_peer, &message(number, 5), Token(number as u64));
        }
        node.step();
        node.batch.push(to_peer, &message(3, 5), Token(3));
        let (mut stream, from) = peer.accept().unwrap();
        assert_eq!(from.ip(), node.local.ip(), "bound to the listener's address");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let expected = (0..4).map(|n| message(n, 5)).collect::<Vec<_>>().concat();
        node.until(|node| node.tcp.counters().sent == 4);
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, expected);
        stream.write_all(&message(9, 0)).unwrap();
        node.until(|node| node.messages().len() == 1);
        let (flow, _) = node.messages()[0];
        assert_eq!((flow.local, flow.remote), (to_peer.local, to_peer.remote));
        assert_eq!((node.tcp.len(), node.tcp.counters().opened), (1, 1));
        assert!(node.tcp.is_open(flow.conn));
        assert!(node.failed().is_empty());
    }
}

#[test]
fn an_accepted_connection_is_no_way_to_its_peers_address_but_serves_its_own_flow() {
    let mut node = Node::new(FAMILIES[0], config());
    let mut stream = node.dial();
    stream.write_all(&message(1, 0)).unwrap();
    node.until(|node| node.messages().len() == 1);
    let (flow, _) = node.messages()[0];
    node.batch.push(flow, b"over the flow", Token(1));
    node.batch.push(Flow { conn: ConnId::NONE, ..flow }, b"to the address", Token(2));
    node.until(|node| !node.failed().is_empty());
    let mut bytes = [0; 13];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"over the flow");
    assert_eq!(node.failed(), [(Token(2), b"to the address".to_vec())], "nobody listens there");
}

#[test]
fn what_cannot_be_delivered_comes_back_with_its_token_and_bytes() {
    let mut node = Node::new(FAMILIES[0], config());
    let closed = TcpListener::bind(FAMILIES[0]).unwrap().local_addr().unwrap();
    let to_closed = node.flow_to(closed);
    node.batch.push(to_closed, b"refused", Token(1));
    node.batch.push(to_closed, b"as well", Token(2));
    let dead = Flow { conn: ConnId::new(Node::WORKER, 999), ..to_closed };
    node.batch.push(dead, b"gone", Token(3));
    node.batch.push(node.flow_to("[::1]:5060".parse().unwrap()), b"other family", Token(4));
    node.until(|node| node.failed().len() == 4);
    let mut failed = node.failed();
    failed.sort_by_key(|(token, _)| token.0);
    let texts: Vec<_> = failed.iter().map(|(_, bytes)| &bytes[..]).collect();
    assert_eq!(texts, [&b"refused"[..], b"as well", b"gone", b"other family"]);
    assert!(node.tcp.is_empty());
    assert_eq!(node.closed(), [CloseReason::ConnectFailed(ErrorKind::ConnectionRefused)]);
}

#[test]
fn a_peer_that_never_answers_the_connect_is_given_up_in_time() {
    let mut node = Node::new(FAMILIES[0], config());
    // A listener whose queue is full answers no SYN.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&FAMILIES[0].parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let _first = TcpStream::connect(addr).unwrap();
    node.batch.push(node.flow_to(addr), b"INVITE", Token(5));
    node.step();
    assert_eq!(node.tcp.len(), 1);
    assert!(node.tcp.next_deadline_us().is_some());
    node.pass(config().connect_us);
    assert_eq!(node.failed(), [(Token(5), b"INVITE".to_vec())]);
    assert_eq!(node.closed(), [CloseReason::ConnectTimeout]);
}

#[test]
fn a_burst_for_a_peer_that_has_not_answered_yet_is_bounded_and_not_lost_whole() {
    let mut node = Node::new(FAMILIES[0], TcpConfig { write_queue_bytes: 2_500, ..config() });
    let peer = TcpListener::bind(FAMILIES[0]).unwrap();
    for number in 0..4 {
        let text = vec![b'0' + number; 1_000];
        node.batch.push(node.flow_to(peer.local_addr().unwrap()), &text, Token(number.into()));
    }
    node.until(|node| node.tcp.counters().sent == 2);
    let tokens: Vec<_> = node.failed().iter().map(|(token, _)| token.0).collect();
    assert_eq!(tokens, [2, 3]);
    let (mut stream, _) = peer.accept().unwrap();
    let mut bytes = [0; 2_000];
    stream.read_exact(&mut bytes).unwrap();
    assert!(bytes[..1_000] == [b'0'; 1_000] && bytes[1_000..] == [b'1'; 1_000]);
}

#[test]
fn connections_are_bounded_in_all_and_by_source() {
    let mut node =
        Node::new(FAMILIES[0], TcpConfig { connections: 3, connections_per_source: 2, ..config() });
    let from = |ip: &str| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&format!("{ip}:0").parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.connect(&node.local.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let kept = [from("127.0.0.2"), from("127.0.0.2")];
    let mut crowd = from("127.0.0.2");
    let other = from("127.0.0.3");
    let mut late = from("127.0.0.4");
    node.until(|node| node.tcp.counters().refused_total == 1);
    assert_eq!((node.tcp.len(), node.tcp.counters().refused_source), (3, 1));
    assert!(read_all(&mut crowd).is_empty() && read_all(&mut late).is_empty());
    drop((kept, other));
    node.until(|node| node.tcp.is_empty());
    assert_eq!(node.closed(), [CloseReason::Peer; 3]);
}

#[test]
fn a_peer_that_does_not_read_is_bounded_and_closed() {
    let mut node = Node::new(FAMILIES[0], TcpConfig { write_queue_bytes: 20_000, ..config() });
    let mut stream = node.dial();
    stream.write_all(&message(0, 0)).unwrap();
    node.until(|node| node.messages().len() == 1);
    let (flow, _) = node.messages()[0];
    let text = vec![b'x'; 1_000];
    let mut pushed = 0_u64;
    while node.tcp.len() == 1 {
        pushed += 1;
        assert!(pushed < 100_000, "no bound");
        node.batch.push(flow, &text, Token(pushed));
        node.step();
        assert!(node.tcp.memory_bytes() <= 64 * 1024, "{}", node.tcp.memory_bytes());
    }
    assert_eq!(node.closed(), [CloseReason::WriteQueueFull]);
    let failed = node.failed();
    assert!(failed.iter().all(|(_, bytes)| *bytes == text));
    let counters = node.tcp.counters();
    assert_eq!(counters.sent + counters.failed, pushed, "each is sent or reported");
    assert!(failed.iter().any(|(token, _)| *token == Token(pushed)));
    assert_eq!(node.tcp.memory_bytes(), 0);
}

#[test]
fn a_peer_that_stalls_is_closed_after_the_write_time() {
    let mut node = Node::new(FAMILIES[0], config());
    let mut stream = node.dial();
    stream.write_all(&message(0, 0)).unwrap();
    node.until(|node| node.messages().len() == 1);
    let (flow, _) = node.messages()[0];
    while node.tcp.memory_bytes() == 0 {
        node.batch.push(flow, &[b'x'; 10_000], Token(1));
        node.step();
    }
    node.pass(config().write_us);
    assert_eq!(node.closed(), [CloseReason::WriteTimeout]);
    assert!(!node.failed().is_empty());
}

#[test]
fn unfinished_messages_and_silent_strangers_are_closed_long_before_idle_phones() {
    let mut node = Node::new(FAMILIES[0], config());
    let _silent = node.dial();
    let mut slow = node.dial();
    let mut phone = node.dial();
    phone.write_all(&message(0, 0)).unwrap();
    slow.write_all(&message(1, 0)).unwrap();
    node.until(|node| node.messages().len() == 2);
    slow.write_all(b"INVITE sip:a").unwrap();
    node.until(|node| node.tcp.memory_bytes() > 0);
    node.pass(config().message_us / 2);
    // A byte now and then does not buy time.
    slow.write_all(b"b").unwrap();
    node.step();
    node.pass(config().message_us / 2);
    assert_eq!(node.closed(), [CloseReason::MessageTimeout; 2]);
    assert_eq!(node.tcp.len(), 1);
    node.pass(config().idle_us - config().message_us - 1);
    assert_eq!(node.tcp.len(), 1, "the phone is still within its time");
    phone.write_all(b"\r\n\r\n").unwrap();
    node.until(|node| node.tcp.counters().pings == 1);
    node.pass(config().idle_us - 1);
    assert_eq!(node.tcp.len(), 1, "a keep-alive starts the time anew");
    node.pass(1);
    assert_eq!(node.closed().last(), Some(&CloseReason::Idle));
    assert_eq!(node.tcp.next_deadline_us(), None);
}

#[test]
fn all_connections_together_hold_no_more_than_their_memory() {
    let mut node = Node::new(FAMILIES[0], TcpConfig { memory_bytes: 100_000, ..config() });
    let mut streams = Vec::new();
    for _ in 0..10 {
        let mut stream = node.dial();
        stream.write_all(&message(0, 30_000)[..25_000]).unwrap();
        streams.push(stream);
        node.until(|node| node.tcp.counters().accepted == streams.len() as u64);
        node.settle();
        assert!(node.tcp.memory_bytes() <= 100_000);
    }
    assert!(node.closed().contains(&CloseReason::Memory));
    assert!(!node.tcp.is_empty(), "those within the bound stay");
}

#[test]
fn a_talkative_peer_does_not_starve_a_quiet_one() {
    let limits = TcpConfig { reads_per_turn: 1, bytes_per_turn: 1, ..config() };
    let mut node = Node::new(FAMILIES[0], limits);
    let (mut loud, mut quiet) = (node.dial(), node.dial());
    let flood = message(1, 1_000).repeat(300);
    loud.set_nonblocking(true).unwrap();
    let written = loud.write(&flood).unwrap();
    quiet.write_all(&message(2, 0)).unwrap();
    node.until(|node| node.tcp.counters().accepted == 2);
    let peer = quiet.local_addr().unwrap();
    node.until(|node| node.messages().iter().any(|(flow, _)| flow.remote == peer));
    let before = node.messages().len();
    assert!(before * message(1, 1_000).len() < written, "{before} messages came first");
    assert!(node.tcp.has_work(), "the rest is not forgotten");
}

#[test]
fn an_answer_to_a_peer_that_has_ended_its_side_is_still_written() {
    let mut node = Node::new(FAMILIES[0], config());
    let mut stream = node.dial();
    stream.write_all(&message(1, 0)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    node.until(|node| node.messages().len() == 1);
    node.settle();
    assert_eq!(node.tcp.len(), 1, "the answer may wait for a store");
    let (flow, _) = node.messages()[0];
    node.batch.push(flow, &message(2, 0), Token(7));
    node.settle();
    assert_eq!(node.failed(), [(Token(7), message(2, 0))], "a request would not be answered");
    for answer in [&b"SIP/2.0 100 Trying\r\n\r\n"[..], b"SIP/2.0 200 OK\r\n\r\n"] {
        node.batch.push(flow, answer, Token(1));
        node.settle();
    }
    node.until(|node| node.tcp.counters().closed == 1);
    assert_eq!(read_all(&mut stream), b"SIP/2.0 100 Trying\r\n\r\nSIP/2.0 200 OK\r\n\r\n");
    assert_eq!(node.failed().len(), 1);
    assert_eq!(node.closed(), [CloseReason::Peer]);
}

#[test]
fn a_peer_that_has_ended_its_side_is_waited_for_no_longer_than_the_linger_time() {
    let mut node = Node::new(FAMILIES[0], config());
    let mut unanswered = node.dial();
    unanswered.write_all(&message(1, 0)).unwrap();
    unanswered.shutdown(Shutdown::Write).unwrap();
    node.until(|node| node.messages().len() == 1);
    node.settle();
    assert_eq!(node.tcp.len(), 1);
    node.pass(config().linger_us);
    assert_eq!(node.closed(), [CloseReason::Peer]);
    // An ACK is never answered.
    let mut done = node.dial();
    done.write_all(b"ACK sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n").unwrap();
    done.shutdown(Shutdown::Write).unwrap();
    node.until(|node| node.closed().len() == 2);
}

#[test]
fn a_stopped_listener_refuses_and_open_connections_go_on() {
    let mut node = Node::new(FAMILIES[0], config());
    let mut stream = node.dial();
    node.until(|node| node.tcp.len() == 1);
    node.tcp.stop_listening();
    let refused = TcpStream::connect(node.local).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    stream.write_all(&message(1, 0)).unwrap();
    node.until(|node| node.messages().len() == 1);
    let (flow, _) = node.messages()[0];
    assert_eq!(flow.transport, Transport::Tcp);
    node.close(flow.conn);
    assert_eq!(node.closed(), [CloseReason::Local]);
    assert!(read_all(&mut stream).is_empty());
}
