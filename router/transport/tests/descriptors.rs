//! What happens when the process runs out of file descriptors. Alone in its file, because the limit
//! is the whole process's.
#![allow(clippy::unwrap_used)]

#[path = "support/node.rs"]
#[allow(dead_code)]
mod node;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use node::{FAMILIES, Node, config};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

#[test]
fn a_connection_that_finds_no_descriptor_waits_and_is_accepted_later() {
    let mut node = Node::new(FAMILIES[0], config());
    let stream = TcpStream::connect(node.local).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Descriptors are given out lowest first, so the one after this stream's is the next.
    let next = stream.as_raw_fd() as u64 + 1;
    setrlimit(Resource::RLIMIT_NOFILE, next, hard).unwrap();
    node.until(|node| node.tcp.counters().accept_errors == 1);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(node.tcp.is_empty() && !node.tcp.has_work(), "no busy loop meanwhile");
    let again_us = node.tcp.next_deadline_us().unwrap();
    node.pass(again_us);
    node.until(|node| node.tcp.len() == 1);
    assert_eq!(node.tcp.counters().accepted, 1);
}
