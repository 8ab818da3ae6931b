//! What a scrape gives after a worker has counted.

use super::*;
use std::net::SocketAddr;
use viaduct_engine::counters::Counters;
use viaduct_engine::{CommitFault, Event, FailureKind};
use viaduct_message::Fault;

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{text}"))
}

fn source() -> SocketAddr {
    "192.0.2.1:5060".parse().unwrap()
}

#[test]
fn a_scrape_adds_up_all_workers() {
    let metrics = Metrics::new(2);
    let (one, two) = (metrics.worker(0).unwrap(), metrics.worker(1).unwrap());
    one.received(b"REGISTER sip:a SIP/2.0\r\n");
    two.received(b"REGISTER sip:a SIP/2.0\r\n");
    two.received(b"register sip:a SIP/2.0\r\n");
    one.received(b"SIP/2.0 183 Progress\r\n");
    one.sent(b"SIP/2.0 404 Not Found\r\n");
    two.sent(b"INVITE sip:a SIP/2.0\r\n");
    one.add(Counter::UdpDropped, 3);
    one.set(Gauge::Transactions, 5);
    two.set(Gauge::Transactions, 7);
    metrics.watch_location(|| LocationNumbers { aors: 10, bindings: 12, ..Default::default() });
    metrics.watch_policies(|| {
        let live = PolicyEntry {
            name: "registrar".into(),
            version: "1.0.0".into(),
            runs: 9,
            loaded: true,
            ..Default::default()
        };
        vec![PolicyEntry { loaded: false, ..live.clone() }, live]
    });
    let text = metrics.render().unwrap();
    for expected in [
        "viaduct_requests_received_total{method=\"REGISTER\"} 2",
        "viaduct_requests_received_total{method=\"other\"} 1",
        "viaduct_responses_received_total{code=\"183\"} 1",
        "viaduct_responses_sent_total{code=\"404\"} 1",
        "viaduct_requests_sent_total{method=\"INVITE\"} 1",
        "viaduct_udp_dropped_total 3",
        "viaduct_transactions 12",
        "viaduct_aors 10",
        "viaduct_bindings 12",
        "viaduct_policy_version_runs_total{name=\"registrar\",version=\"1.0.0\",hash=\"\"} 9",
        "# EOF",
    ] {
        assert_eq!(line(&text, expected), expected);
    }
}

#[test]
fn events_become_counters() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0).unwrap();
    for event in [
        Event::Malformed { fault: Fault::TooLarge, source: source() },
        Event::PolicyFailed { kind: FailureKind::Fuel, status: 503 },
        Event::PolicyCount { name: "nat".into(), by: 2 },
    ] {
        worker.event(&event);
    }
    worker.bad_framing();
    worker.take_counters(&Counters { policy_runs: 5, shed: 2, ..Counters::default() });
    let commits_in_memory = [3, 1, 0, 0];
    worker.take_counters(&Counters {
        policy_runs: 6,
        shed: 2,
        ignored: 4,
        commits_in_memory,
        ..Counters::default()
    });
    let text = metrics.render().unwrap();
    for expected in [
        "viaduct_malformed_total{fault=\"too-large\"} 1",
        "viaduct_malformed_total{fault=\"framing\"} 1",
        "viaduct_policy_runs_total 6",
        "viaduct_shed_total 2",
        "viaduct_ignored_total 4",
        "viaduct_commits_in_memory_total{result=\"stored\"} 3",
        "viaduct_commits_in_memory_total{result=\"conflict\"} 1",
        "viaduct_policy_failures_total{kind=\"fuel\"} 1",
        "viaduct_policy_counter_total{name=\"nat\"} 2",
    ] {
        assert_eq!(line(&text, expected), expected);
    }
}

#[test]
fn commit_latencies_fall_into_their_buckets() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0).unwrap();
    worker.committed(&Ok(()), 400);
    worker.committed(&Ok(()), 3_000);
    worker.committed(&Err(CommitFault::Store), 60_000_000);
    let text = metrics.render().unwrap();
    for expected in [
        "viaduct_commits_total{result=\"stored\"} 2",
        "viaduct_commits_total{result=\"store-failed\"} 1",
        "viaduct_commit_seconds_bucket{le=\"0.0005\"} 1",
        "viaduct_commit_seconds_bucket{le=\"0.005\"} 2",
        "viaduct_commit_seconds_bucket{le=\"5.0\"} 2",
        "viaduct_commit_seconds_bucket{le=\"+Inf\"} 3",
        "viaduct_commit_seconds_count 3",
        "viaduct_commit_seconds_sum 60.0034",
    ] {
        assert_eq!(line(&text, expected), expected);
    }
}

#[test]
fn a_policy_cannot_fill_the_memory_or_break_the_format_with_counter_names() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0).unwrap();
    worker.event(&Event::PolicyCount { name: "a\"} 1\nb{".into(), by: 1 });
    worker.event(&Event::PolicyCount { name: "x".repeat(100_000), by: 1 });
    for number in 0..1000 {
        worker.event(&Event::PolicyCount { name: format!("n{number}"), by: 1 });
    }
    let text = metrics.render().unwrap();
    line(&text, "viaduct_policy_counter_total{name=\"a___1_b_\"} 1");
    line(&text, &format!("viaduct_policy_counter_total{{name=\"{}\"}} 1", "x".repeat(64)));
    line(&text, "viaduct_policy_counter_total{name=\"other\"} 746");
    let count =
        text.lines().filter(|line| line.starts_with("viaduct_policy_counter_total")).count();
    assert_eq!(count, 257, "256 names and `other`");
}

#[test]
fn short_and_strange_messages_are_counted_without_harm() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0).unwrap();
    for bytes in
        [&b""[..], b"SIP/2.0 ", b"SIP/2.0 9", b"SIP/2.0 \xff\xff\xff", b"SIP/2.0 999", b" "]
    {
        worker.received(bytes);
        worker.sent(bytes);
    }
    let text = metrics.render().unwrap();
    line(&text, "viaduct_requests_received_total{method=\"other\"} 2");
}
