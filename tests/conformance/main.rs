//! A suite that speaks nothing but SIP: what RFC 3261 and its companions say of registrars and
//! proxies, clause by clause, over UDP and TCP.
//!
//! It knows a server by address and domain ([`server`] says what every server must be told to do),
//! and runs against Viaduct, and against Kamailio to see that the suite asks for nothing odd. A case
//! never waits for nothing to happen: that something does not come is shown by a probe that is
//! answered after it would have, or by a later timer of the same server.
//!
//! Start reading at [`case`], then any file of `cases/`. [`claims`] makes the README's table.

mod agent;
mod case;
mod cases;
mod claims;
mod deviations;
mod server;
mod stage;

use std::collections::HashSet;

use anyhow::{Result, anyhow, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::{kamailio, router};

use case::Ended;
use deviations::{Deviation, KAMAILIO, VIADUCT};
use server::Server;

/// Plays everything against a server; fails with all that is neither as the clause says nor known.
fn judge(server: &Server, known: &[Deviation]) -> Result<()> {
    let ended = case::play(&cases::all(), server);
    let count = ended.len();
    let faults: Vec<String> = ended.into_iter().filter_map(|one| fault(known, one)).collect();
    println!("{count} cases, {} faults, {} known deviations", faults.len(), known.len());
    ensure!(faults.is_empty(), "{}\nlog:\n{}", faults.join("\n\n"), server.log());
    Ok(())
}

/// What is wrong with how a case ended, by a list of deviations.
fn fault(known: &[Deviation], ended: Ended) -> Option<String> {
    let title = ended.title();
    let known = known.iter().find(|one| one.is_of(ended.case, ended.over));
    match (ended.result, known) {
        (Ok(()), None) => None,
        (Ok(()), Some(known)) => {
            Some(format!("{title}: no deviation any more ({})", known.because))
        }
        (Err(error), None) => Some(format!("{title}: {error:#}")),
        (Err(error), Some(known)) => {
            let error = format!("{error:#}");
            let as_known = error.contains(known.observed);
            let otherwise =
                || format!("{title}: not '{}' as is known, but {error}", known.observed);
            (!as_known).then(otherwise)
        }
    }
}

#[test]
fn viaduct_keeps_every_clause() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    judge(&Server::viaduct()?, VIADUCT)
}

/// The suite is sane where a server of other people's passes it but for what is known of it.
#[test]
fn kamailio_passes_but_for_what_is_known_of_it() -> Result<()> {
    or_skip!(kamailio::installed(), "kamailio is not installed");
    judge(&Server::kamailio()?, KAMAILIO)
}

#[test]
fn a_deviation_is_excused_as_long_as_it_is_that_one() {
    let all = cases::all();
    let case = all.iter().find(|case| case.over.len() == 2).expect("a case over both");
    let over = &case.over[..1];
    let known = [Deviation { says: case.says, over, observed: "not 400", because: "to see it" }];
    let is_excused =
        |over: Transport, result: Result<()>| fault(&known, Ended { case, over, result }).is_none();
    assert!(is_excused(case.over[0], Err(anyhow!("not 400: 200"))));
    assert!(!is_excused(case.over[0], Err(anyhow!("not 404: 200"))));
    assert!(!is_excused(case.over[0], Ok(())));
    assert!(!is_excused(case.over[1], Err(anyhow!("not 400: 200"))));
    assert!(is_excused(case.over[1], Ok(())));
}

#[test]
fn each_case_says_something_of_its_own_and_each_deviation_has_a_case_and_a_reason() {
    let all = cases::all();
    let says: HashSet<&str> = all.iter().map(|case| case.says).collect();
    assert_eq!(says.len(), all.len(), "two cases say the same");
    for known in VIADUCT.iter().chain(KAMAILIO) {
        let known_case = all.iter().any(|case| known.over.iter().all(|o| known.is_of(case, *o)));
        let explained = !known.because.is_empty() && !known.observed.is_empty();
        assert!(known_case && explained, "{}", known.says);
    }
}
