//! What a case is, and running many at a time.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;
use viaduct_tests::support::net::{Transport, own_address};

use crate::server::Server;
use crate::stage::Stage;

/// Cases under way at a time. Most wait most of their time; more of them would only make a server
/// on a small machine late.
const AT_A_TIME: usize = 24;

pub(crate) const UDP: &[Transport] = &[Transport::Udp];
pub(crate) const TCP: &[Transport] = &[Transport::Tcp];
pub(crate) const BOTH: &[Transport] = &[Transport::Udp, Transport::Tcp];

/// One thing a clause says, and how to see it from outside.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) rfc: u16,
    pub(crate) section: &'static str,
    /// The clause in short; unique among the cases.
    pub(crate) says: &'static str,
    /// The transports of its agents.
    pub(crate) over: &'static [Transport],
    pub(crate) run: fn(&Stage<'_>) -> Result<()>,
}

/// A case of a file that has several sections and transports.
pub(crate) const fn case(
    (rfc, section): (u16, &'static str),
    over: &'static [Transport],
    says: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
) -> Case {
    Case { rfc, section, says, over, run }
}

/// How a case ended over one transport.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) case: &'static Case,
    pub(crate) over: Transport,
    pub(crate) result: Result<()>,
}

impl Ended {
    /// The clause and the transport.
    pub(crate) fn title(&self) -> String {
        let Case { rfc, section, says, .. } = self.case;
        format!("RFC {rfc}, {section}: {says} (over {:?})", self.over)
    }
}

/// Plays all cases, many at a time, in the order given.
pub(crate) fn play(cases: &[&'static Case], server: &Server) -> Vec<Ended> {
    let mut turns: Vec<(&'static Case, Transport)> = Vec::new();
    for case in cases {
        turns.extend(case.over.iter().map(|over| (*case, *over)));
    }
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(Vec::new());
    let work = |ip: IpAddr| {
        while let Some(&(case, over)) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = (case.run)(&Stage::new(server, over, ip));
            if let Ok(mut ended) = ended.lock() {
                ended.push(Ended { case, over, result });
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(turns.len()) {
            let ip = own_address();
            let work = &work;
            scope.spawn(move || work(ip));
        }
    });
    ended.into_inner().unwrap_or_default()
}
