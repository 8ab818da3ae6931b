use std::sync::Arc;

use super::*;
use crate::flow::{ConnId, Flow, Transport};
use crate::location::tests::Nobody;
use crate::time::Now;

/// A request that came from 198.51.100.7.
fn run() -> Box<Run> {
    let flow = Flow {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: "198.51.100.7:40000".parse().unwrap(),
        conn: ConnId::NONE,
    };
    let settings = Arc::new(crate::settings::tests::settings());
    let text = b"OPTIONS sip:example.com SIP/2.0\r\n\r\n";
    Run::for_tests(settings, Arc::new(Nobody), flow, Now::default(), text).unwrap()
}

const TABLES: (&str, &str) = ("hits", "banned");

#[test]
fn who_is_over_what_it_may_send_is_banned_and_hit_no_more() {
    let mut run = run();
    let mut guard = || run.table_guard(TABLES, 2, 1, 300);
    assert_eq!(guard(), Ok(Guarded::Within));
    assert_eq!(guard(), Ok(Guarded::Within));
    assert_eq!(guard(), Ok(Guarded::Over(3)));
    assert_eq!(guard(), Ok(Guarded::Banned));
    let staged: Vec<_> =
        run.effects.tables.iter().map(|change| (&*change.table, &*change.key)).collect();
    let ip = "198.51.100.7";
    assert_eq!(staged, [("hits", ip), ("hits", ip), ("hits", ip), ("banned", ip)]);
}

#[test]
fn who_cannot_be_banned_is_over_each_time() {
    let mut run = run();
    assert_eq!(run.table_guard(TABLES, 0, 1, 0), Ok(Guarded::Over(1)));
    assert_eq!(run.table_guard(TABLES, 0, 1, 0), Ok(Guarded::Over(2)));
}

#[test]
fn a_window_of_no_time_is_refused() {
    assert_eq!(run().table_guard(TABLES, 0, 0, 300), Err(TableFault::TooLarge));
}
