//! Start-up, memory and look-up with very many bindings.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::kamailio::DOMAIN;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::postgres::Postgres;
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::Request;

use super::lookup::Lookups;
use super::{Keeper, Stand};
use crate::cpu;
use crate::drive::{Driver, Pace, Run};
use crate::subject::{GENERATOR_CORE, Setup, Subject};
use crate::table::Progress;
use crate::wire::Wire;
use crate::work::OUTSTANDING;

/// AoRs asked for where few are: those of the benchmark of calls.
pub(super) const FEW: usize = 1_000;
/// Look-ups of a measurement.
const LOOKUPS: usize = 100_000;
/// How long a server may take until it knows its bindings.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was found of one server.
pub(super) struct Found {
    pub(super) keeper: Keeper,
    /// Bindings taken over from Kamailio's database a second; `None`: it was theirs.
    pub(super) import_per_s: Option<f64>,
    /// From the start of the process until it finds bindings, seconds.
    pub(super) start_s: f64,
    /// Memory for each binding.
    pub(super) bytes: f64,
    /// CPU time for a request that is looked up, relayed and answered, microseconds: all AoRs
    /// asked for, and few.
    pub(super) lookup_us: [f64; 2],
}

/// One server after the other.
pub(super) fn measure(stand: &Stand<'_>, bindings: u32, scale_percent: u32) -> Result<Vec<Found>> {
    let count = LOOKUPS * scale_percent as usize / 100;
    let generator = (SocketAddr::from((own_address(), 5060)), (own_address(), 5060).into());
    // How many processes it has makes no difference here.
    let keepers = || stand.keepers.iter().filter(|keeper| **keeper != Keeper::KamailioOne);
    let progress = Progress::new(1 + keepers().count());
    progress.step(&format!("{bindings} bindings into PostgreSQL"));
    fill(stand.database().context("where the bindings come from")?, bindings, generator.1)?;
    let mut found = Vec::new();
    for keeper in keepers() {
        progress.step(&format!("{} many", keeper.name()));
        let one = one(stand, *keeper, bindings, (generator, count.max(OUTSTANDING)));
        found.push(one.with_context(|| format!("{bindings} bindings of {}", keeper.name()))?);
    }
    progress.done();
    Ok(found)
}

/// The bindings, in Kamailio's table.
fn fill(server: &Postgres, bindings: u32, callee: SocketAddr) -> Result<()> {
    server.sql_in("kamailio", "TRUNCATE location")?;
    let last = bindings - 1;
    server.sql_in(
        "kamailio",
        &format!(
            "INSERT INTO location (ruid, username, domain, contact, expires, q, callid, cseq, \
                                   last_modified, user_agent, methods) \
             SELECT 'uloc-' || n, 'c' || n, '{DOMAIN}', 'sip:c' || n || '@{callee}', \
                    now() AT TIME ZONE 'UTC' + interval '1 day', -1, \
                    n || '-phone@generator.{DOMAIN}', 1, now() AT TIME ZONE 'UTC', \
                    'load generator', NULL \
             FROM generate_series(0, {last}) AS n"
        ),
    )?;
    server.sql_in("kamailio", "VACUUM ANALYZE location").map(drop)
}

fn one(
    stand: &Stand<'_>,
    keeper: Keeper,
    bindings: u32,
    (generator, requests): ((SocketAddr, SocketAddr), usize),
) -> Result<Found> {
    let setup = stand.setup(keeper, true)?;
    let (empty_bytes, import_per_s) = if keeper.of_kamailio().is_some() {
        (kamailio_without_bindings(stand, &setup)?, None)
    } else {
        let empty_bytes = viaduct_without_bindings(stand, keeper, &setup)?;
        (empty_bytes, Some(import(stand, &setup, bindings)?))
    };
    let count = f64::from(bindings);
    let began = Instant::now();
    let subject = stand.start(keeper, &setup, true)?.asked_from(generator);
    until_known(&subject, bindings)?;
    let start_s = began.elapsed().as_secs_f64();
    let bytes = (cpu::memory_bytes(subject.pid())? as f64 - empty_bytes as f64) / count;
    let lookup = |aors| lookups(&subject, aors, requests).with_context(|| subject.log_tail());
    let lookup_us = [lookup(bindings as usize)?.cost_us(), lookup(FEW)?.cost_us()];
    Ok(Found { keeper, import_per_s, start_s, bytes, lookup_us })
}

/// Memory of Kamailio beside an empty table.
fn kamailio_without_bindings(stand: &Stand<'_>, setup: &Setup) -> Result<u64> {
    let sql = |text| stand.database()?.sql_in("kamailio", text);
    sql("ALTER TABLE location RENAME TO kept; CREATE TABLE location (LIKE kept)")?;
    let bytes = memory_when_idle(&stand.start(Keeper::KamailioPostgres, setup, true)?)?;
    sql("DROP TABLE location; ALTER TABLE kept RENAME TO location")?;
    Ok(bytes)
}

/// Memory of the router with an empty store.
fn viaduct_without_bindings(stand: &Stand<'_>, keeper: Keeper, setup: &Setup) -> Result<u64> {
    if keeper == Keeper::ViaductPostgres {
        // Bindings of another measurement would count.
        stand.database()?.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")?;
    }
    // The first start compiles the policy, which leaves memory behind.
    drop(stand.start(keeper, setup, true)?);
    memory_when_idle(&stand.start(keeper, setup, true)?)
}

/// Takes the bindings over from Kamailio's table; how many a second.
fn import(stand: &Stand<'_>, setup: &Setup, bindings: u32) -> Result<f64> {
    let source = stand.database()?.connection().replace("dbname=viaduct", "dbname=kamailio");
    let began = Instant::now();
    let report = setup.command(&["location", "import", &source])?;
    ensure!(report.contains(&format!("with {bindings} bindings stored")), "{report}");
    Ok(f64::from(bindings) / began.elapsed().as_secs_f64())
}

/// After it has answered once, so that all of it is there.
fn memory_when_idle(subject: &Subject) -> Result<u64> {
    let mut client = client(subject)?;
    let answer = client.transact(&Request::fetch("nobody", DOMAIN))?;
    ensure!(answer.status() == Some(200), "{}", answer.text);
    cpu::memory_bytes(subject.pid())
}

fn client(subject: &Subject) -> Result<SipClient> {
    SipClient::new(Transport::Udp, (own_address(), 5060).into(), subject.address())
}

/// Waits until the first, the last and a middle one are found.
fn until_known(subject: &Subject, bindings: u32) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut client = client(subject)?;
    for number in [0, bindings / 2, bindings - 1] {
        let user = format!("c{number}");
        loop {
            let answer = client.transact(&Request::fetch(&user, DOMAIN));
            if answer.is_ok_and(|answer| !answer.list("Contact").is_empty()) {
                break;
            }
            ensure!(Instant::now() < deadline, "{user} is not found\n{}", subject.log_tail());
        }
    }
    Ok(())
}

fn lookups(subject: &Subject, aors: usize, requests: usize) -> Result<Run> {
    let all_cores = cpu::pin_to(GENERATOR_CORE)?;
    let (caller, callee) = subject.generator_addresses();
    let wire = Wire::new(caller, callee, subject.address())?;
    let mut load = Lookups::new(caller, aors);
    let mut driver = Driver::new(&mut load, &wire, Pace::BUSY);
    driver.answer(requests / 10)?;
    let run = driver.measure(subject, &[], requests)?;
    driver.drain()?;
    cpu::allow(&all_cores)?;
    run.check()?;
    Ok(run)
}
