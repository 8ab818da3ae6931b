//! The torture messages of RFC 4475 and RFC 5118, sent to a running router over UDP and over TCP.
//!
//! The corpus' indexes say which outcomes agree with the RFCs; [`judge`] compares. A client sends a
//! message and a probe behind it. A phone ([`sink`]) is registered for whatever user the message is
//! for, so that a good request arrives somewhere and can be compared octet by octet
//! ([`forwarded`]). Nothing here knows the router's insides, nor waits for nothing to happen: that
//! a message was dropped is seen by the probe being answered first.
//!
//! Start reading at [`judge::judge`]. Without the corpus (`VIADUCT_CORPUS`, or `../shared/corpus`
//! beside the checkout) the test is skipped.

mod corpus;
mod flow;
mod forwarded;
mod judge;
mod nevers;
mod node;
mod octets;
mod sink;
mod stand;

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::{router, skip};

use judge::Outcome;
use stand::{Place, Stand};

/// Messages with which the router does otherwise than the index allows, each with the reason. One
/// that is no deviation any more makes the test fail.
const DEVIATIONS: &[Deviation] = &[];

struct Deviation {
    file: &'static str,
    transport: Transport,
    observed: Outcome,
    reason: &'static str,
}

/// RFC 4475: `services.example.com` and 127.0.0.1 stand in Route values.
const RFC4475: Place = Place {
    domains: &[
        "example.com",
        "example.net",
        "example.org",
        "chair-dnrc.example.com",
        "registrar.example.com",
        "company.com",
        "services.example.com",
        "127.0.0.1",
    ],
    addresses: &[],
    v6: false,
};

/// RFC 5118: REGISTERs go to the router's address and are for users of a domain.
const RFC5118: Place = Place {
    domains: &["example.com", "host.example.net", "2001:db8::192.0.2.1"],
    addresses: &["[2001:db8::10]:5060", "[2001:db8::10]:5070", "[2001:db8::10:5070]:5060"],
    v6: true,
};

/// Longer than the router waits for the rest of a message.
const UNFINISHED: Duration = Duration::from_secs(60);

/// What came of one collection over one transport.
#[derive(Debug, Default)]
struct Tally {
    counted: usize,
    right: usize,
    failures: Vec<String>,
}

/// Sends all messages of a collection.
fn run(folder: &Path, name: &str, place: Place, transport: Transport) -> Result<Tally> {
    let entries = corpus::read(folder, name)?;
    let mut tally = Tally::default();
    let mut stand = Stand::start(place, transport)?;
    for entry in &entries {
        let key = entry.transaction();
        // A router that has seen its transaction would take it for a retransmission.
        if key.is_some_and(|key| !stand.begin(key)) {
            std::mem::replace(&mut stand, Stand::start(place, transport)?).node.finish()?;
        }
        let result = judge::judge(&mut stand, entry, transport);
        tally.counted += usize::from(entry.counted);
        match verdict(DEVIATIONS, (&entry.file, transport), result) {
            Ok(()) => tally.right += usize::from(entry.counted),
            Err(error) => {
                let log = stand.node.log();
                let text = format!("{} over {transport:?}: {error:#}\n{log}", entry.file);
                tally.failures.push(text);
                // What is left of this one must not be taken for the next one's.
                stand = Stand::start(place, transport)?;
            }
        }
    }
    stand.node.finish()?;
    Ok(tally)
}

/// Judges by a list of deviations.
fn verdict(
    deviations: &[Deviation],
    (file, transport): (&str, Transport),
    result: Result<Outcome>,
) -> Result<()> {
    let known = deviations.iter().find(|one| one.file == file && one.transport == transport);
    match (result, known) {
        (result, None) => result.map(drop),
        (Ok(outcome), Some(_)) => Err(anyhow!("{outcome}: no deviation any more")),
        (Err(error), Some(known)) => {
            if error.downcast_ref::<Outcome>() == Some(&known.observed) {
                return Ok(());
            }
            let (observed, reason) = (known.observed, known.reason);
            Err(error.context(format!("known as a deviation ({observed}: {reason}), now")))
        }
    }
}

#[test]
fn torture_messages_get_what_their_rfcs_say() -> Result<()> {
    let folder = match corpus::folder() {
        Ok(folder) => folder,
        Err(reason) => {
            skip::skipped(&reason);
            return Ok(());
        }
    };
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let over_v6 = stand::has_v6();
    if !over_v6 {
        skip::skipped("no IPv6 on this machine: the messages of RFC 5118 go over IPv4");
    }
    let rfc5118 = Place { v6: over_v6, ..RFC5118 };
    let runs = [
        ("rfc4475", RFC4475, Transport::Udp),
        ("rfc4475", RFC4475, Transport::Tcp),
        ("rfc5118", rfc5118, Transport::Udp),
        ("rfc5118", rfc5118, Transport::Tcp),
    ];
    let folder = folder.as_path();
    let results: Vec<Result<Tally>> = thread::scope(|scope| {
        let started =
            runs.map(|(name, place, over)| scope.spawn(move || run(folder, name, place, over)));
        started.map(|one| one.join().map_err(|_| anyhow!("a run has panicked")).flatten()).into()
    });
    let tallies: Vec<Tally> = results.into_iter().collect::<Result<_>>()?;
    let score = |index: usize| {
        tallies.get(index).map_or(String::new(), |t| format!("{}/{}", t.right, t.counted))
    };
    println!(
        "rfc4475: {} over udp, {} over tcp; rfc5118: {}, {}",
        score(0),
        score(1),
        score(2),
        score(3)
    );
    let failures: Vec<String> = tallies.into_iter().flat_map(|tally| tally.failures).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

/// RFC 4475 3.1.2.2 on a stream: what was announced and never comes is not waited for for ever.
#[test]
fn a_stream_message_that_stays_unfinished_ends_the_connection() -> Result<()> {
    let folder = match corpus::folder() {
        Ok(folder) => folder,
        Err(reason) => {
            skip::skipped(&reason);
            return Ok(());
        }
    };
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let entries = corpus::read(&folder, "rfc4475")?;
    let clerr = entries.iter().find(|entry| entry.file == "clerr.dat").context("no clerr.dat")?;
    let stand = Stand::start(RFC4475, Transport::Tcp)?;
    let mut flow = stand.another()?;
    flow.send(&clerr.octets)?;
    ensure!(stand::is_closed(&mut flow, UNFINISHED)?, "still open after {UNFINISHED:?}");
    ensure!(stand.sink.taken().is_empty(), "half a message was forwarded");
    stand.node.finish()
}

#[test]
fn a_deviation_is_excused_as_long_as_it_is_one() {
    let list = [Deviation {
        file: "a.dat",
        transport: Transport::Tcp,
        observed: Outcome::Final(404),
        reason: "to see that it is",
    }];
    let wrong = |outcome: Outcome| Err(anyhow!("its index allows another").context(outcome));
    let judged = |transport, result| verdict(&list, ("a.dat", transport), result).is_ok();
    assert!(judged(Transport::Tcp, wrong(Outcome::Final(404))));
    assert!(!judged(Transport::Tcp, wrong(Outcome::Final(403))));
    assert!(!judged(Transport::Tcp, Ok(Outcome::Forwarded)));
    assert!(!judged(Transport::Udp, wrong(Outcome::Final(404))));
    assert!(judged(Transport::Udp, Ok(Outcome::Forwarded)));
}

#[test]
fn no_deviation_names_a_message_that_is_gone_or_lacks_a_reason() -> Result<()> {
    let folder = match corpus::folder() {
        Ok(folder) => folder,
        Err(reason) => {
            skip::skipped(&reason);
            return Ok(());
        }
    };
    let mut entries = corpus::read(&folder, "rfc4475")?;
    entries.extend(corpus::read(&folder, "rfc5118")?);
    for deviation in DEVIATIONS {
        let known = entries.iter().any(|entry| entry.file == deviation.file);
        ensure!(known && !deviation.reason.is_empty(), "{}", deviation.file);
    }
    // The judge has a rule of its own for each message that differs on a stream.
    let ruled = ["clerr.dat", "dblreq.dat", "inv2543.dat", "mcl01.dat", "ncl.dat"];
    let mut differing: Vec<&str> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.stream.is_some()) {
        differing.push(&entry.file);
    }
    differing.sort_unstable();
    ensure!(differing == ruled, "messages that differ on a stream: {differing:?}");
    Ok(())
}
