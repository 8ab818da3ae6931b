//! `make soak`: a whole router for a long time, with registrations, calls, connections that come and
//! go, policies that are swapped, a database that is killed and comes back, and workers that stall.
//! Each second memory, descriptors, latencies and counters are looked at; a slope that is no chance
//! is an error (from [`JUDGED`] on), and so is anything that is lost or left behind.
//!
//! `VIADUCT_SOAK_S` says how long (20 s), `VIADUCT_SOAK_REPORT` where `soak.svg` and `soak.csv` go.

mod load;
mod plot;
mod sample;
mod stall;
mod trend;

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;
use toml::Table;
use viaduct_tests::or_skip;
use viaduct_tests::support::net::own_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::postgres::{NO_POSTGRES, Postgres};
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sipp;
use viaduct_tests::support::storm::{self, Outcome, Storm};

use self::sample::{Probes, Record, descriptors, value};

const DOMAIN: &str = "soak.example";
/// Clients that register without end, with a pause between bursts.
const CLIENTS: usize = 2;
const PAUSE: Duration = Duration::from_millis(200);
/// Acknowledgements after the last fault: more than there are users.
const SETTLED: usize = 1_000;
/// Where nothing else is asked for.
const SHORT: u64 = 20;
/// From so long on slopes are judged.
const JUDGED: Duration = Duration::from_secs(120);
/// Versions a router keeps to go back to: until it has them all, its memory grows with each.
const KEPT: usize = 16;
const BETWEEN_SWAPS: Duration = Duration::from_secs(3);
const BETWEEN_RESTARTS: Duration = Duration::from_secs(8);
/// The database is away for so long.
const AWAY: Duration = Duration::from_secs(1);
const BETWEEN_STALLS: Duration = Duration::from_millis(2_500);
const STALL: Duration = Duration::from_millis(300);
/// For transactions to end by their timers (64 times T1), and then some.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn nothing_is_lost_or_left_behind_by_load_swaps_stalls_and_restarts_of_the_store() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let mut database = or_skip!(Postgres::start(&[])?, "{NO_POSTGRES}");
    let wanted = env::var("VIADUCT_SOAK_S").ok().map(|text| text.parse()).transpose();
    let length = Duration::from_secs(wanted.context("VIADUCT_SOAK_S")?.unwrap_or(SHORT));
    let folder = TempDir::with_prefix("viaduct-soak-")?;
    let report = env::var_os("VIADUCT_SOAK_REPORT").map(PathBuf::from);
    let report = report.unwrap_or_else(|| folder.path().join("report"));

    let listen = SocketAddr::from((own_address(), 5060));
    let mut setup = Setup::new(listen, DOMAIN, policy::shipped("registrar")?)
        .in_database(&database.connection(), "soak");
    setup.sections = "[timers]\nt1_ms = 200\n";
    let mut router = Router::start(&setup)?;
    let swaps = Swaps::new(folder.path())?;
    if length >= JUDGED {
        (0..KEPT).try_for_each(|_| swaps.next(&router))?;
    }
    // One of each that opens descriptors for good has been there before they are counted.
    warm_up(&router)?;
    let before = descriptors(&router)?.len();
    let (record, expected) = soak(&router, &mut database, &swaps, length)?;
    record.write(&report)?;
    if env::var_os("VIADUCT_SOAK_REPORT").is_some() {
        println!("the samples: {0}/soak.csv, {0}/soak.svg", report.display());
    }
    nothing_is_left(&router, before)?;
    storm::check(listen, DOMAIN, &expected).context("before a restart")?;
    router.stop()?;
    router.start_again()?;
    storm::check(listen, DOMAIN, &expected).context("after a restart")?;
    record.slopes(length >= JUDGED)
}

/// A call, a registration and a connection before anything is measured.
fn warm_up(router: &Router) -> Result<()> {
    let (over, probes) = (AtomicBool::new(false), Probes::default());
    thread::scope(|scope| {
        let visiting = scope.spawn(|| load::visits(router.listen(), DOMAIN, &over));
        let probing = scope.spawn(|| load::probe(router.listen(), DOMAIN, &over, &probes));
        let reached = router.wait_for_metric("registrations", 1);
        over.store(true, Ordering::SeqCst);
        joined(visiting)?;
        joined(probing)?;
        reached
    })?;
    // Its connections are closed, by us; the router hears of it a little later.
    wait_until("connections are closed", router, |metrics| {
        Ok(value(metrics, "viaduct_tcp_connections")? == 0.0)
    })
}

/// All load and all faults for so long; what was seen, and which registrations there must be.
fn soak(
    router: &Router,
    database: &mut Postgres,
    swaps: &Swaps,
    length: Duration,
) -> Result<(Record, Outcome)> {
    let (over, probes, began) = (AtomicBool::new(false), Probes::default(), Instant::now());
    let (server, until) = (router.listen(), began + length);
    let storm = Storm::start_paced(&[server], DOMAIN, CLIENTS, PAUSE);
    let (over, probes) = (&over, &probes);
    let mut record = Record::default();
    thread::scope(|scope| -> Result<()> {
        let work: Vec<Work<'_>> = vec![
            scope.spawn(move || Ok(("calls", load::calls(server, DOMAIN, until)?))),
            scope.spawn(move || Ok(("connections", load::visits(server, DOMAIN, over)?))),
            scope.spawn(move || Ok(("restarts of the store", restart(database, over)?))),
            scope.spawn(move || Ok(("stalls", stall_workers(router, over)?))),
            scope.spawn(move || Ok(("swaps", swap(router, swaps, over)?))),
            scope.spawn(move || load::probe(server, DOMAIN, over, probes).map(|()| ("probe", 1))),
        ];
        let watched = watch(router, probes, began, length, &mut record, &work);
        over.store(true, Ordering::SeqCst);
        for one in work {
            let (what, count) = joined(one)?;
            println!("{count} {what}");
            ensure!(count > 0, "no {what} at all");
        }
        watched
    })?;
    // The store may be away just now: what every user has is to be sure when it ends.
    storm.wait_for(SETTLED)?;
    Ok((record, storm.stop()?))
}

type Work<'scope> = ScopedJoinHandle<'scope, Result<(&'static str, u64)>>;

fn joined<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().map_err(|_| anyhow!("a thread of the test panicked"))?
}

/// Looks each second until the time is over and all calls have ended, or some work has failed.
fn watch(
    router: &Router,
    probes: &Probes,
    began: Instant,
    length: Duration,
    record: &mut Record,
    work: &[Work<'_>],
) -> Result<()> {
    let mut next = Duration::ZERO;
    loop {
        let now = began.elapsed();
        let calling = work.first().is_some_and(|calls| !calls.is_finished());
        if now >= length && !calling {
            return Ok(());
        }
        // Only the calls end by themselves; any other that has ended has failed, and says how.
        if work.iter().skip(1).any(ScopedJoinHandle::is_finished) {
            return Ok(());
        }
        if now < next {
            thread::sleep(next - now);
        }
        record.look(began.elapsed(), router, probes)?;
        next += Duration::from_secs(1);
    }
}

/// Does something again and again until it is over; how often.
fn again(every: Duration, over: &AtomicBool, mut what: impl FnMut() -> Result<()>) -> Result<u64> {
    const STEP: Duration = Duration::from_millis(50);
    let (mut count, mut last) = (0, Instant::now());
    while !over.load(Ordering::SeqCst) {
        thread::sleep(STEP);
        if last.elapsed() >= every {
            what()?;
            count += 1;
            last = Instant::now();
        }
    }
    Ok(count)
}

fn restart(database: &mut Postgres, over: &AtomicBool) -> Result<u64> {
    again(BETWEEN_RESTARTS, over, || {
        database.kill_hard()?;
        thread::sleep(AWAY);
        database.start_again()
    })
}

fn stall_workers(router: &Router, over: &AtomicBool) -> Result<u64> {
    let workers = stall::workers(router.pid())?;
    let mut turn = workers.iter().cycle();
    again(BETWEEN_STALLS, over, || stall::hold(*turn.next().context("no worker")?, STALL))
}

fn swap(router: &Router, swaps: &Swaps, over: &AtomicBool) -> Result<u64> {
    again(BETWEEN_SWAPS, over, || swaps.next(router))
}

/// Versions of a policy without end.
struct Swaps {
    shipped: PathBuf,
    file: PathBuf,
    next: AtomicU32,
}

impl Swaps {
    fn new(folder: &Path) -> Result<Swaps> {
        let (shipped, file) = (policy::shipped("registrar")?, folder.join("registrar.wasm"));
        Ok(Swaps { shipped, file, next: AtomicU32::new(1) })
    }

    fn next(&self, router: &Router) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        policy::copy_with(&self.shipped, &self.file, |manifest: &mut Table| {
            manifest.insert("version".to_owned(), format!("9.0.{number}").into());
        })?;
        router.cli(&["policy", "deploy", &self.file.display().to_string()]).map(drop)
    }
}

/// Once the load is gone, so is what it took: transactions by their timers, connections, descriptors.
fn nothing_is_left(router: &Router, before: usize) -> Result<()> {
    router.check_alive()?;
    wait_until("transactions and connections end", router, |metrics| {
        let open = |name: &str| Ok::<_, anyhow::Error>(value(metrics, name)? == 0.0);
        Ok(open("viaduct_transactions")? && open("viaduct_tcp_connections")?)
    })?;
    // A socket is closed a moment after it is counted as gone.
    let few = |_: &str| Ok(descriptors(router)?.len() <= before);
    wait_until("descriptors are closed", router, few).with_context(|| {
        format!("{before} have become {:#?}", descriptors(router).unwrap_or_default())
    })?;
    let log = router.log();
    ensure!(!log.contains("panicked"), "a panic:\n{log}");
    Ok(())
}

fn wait_until(what: &str, router: &Router, is_so: impl Fn(&str) -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = router.metrics()?;
        if is_so(&metrics)? {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "never: {what}:\n{metrics}");
        // Metrics are asked for; nobody tells when they change.
        thread::sleep(Duration::from_millis(50));
    }
}
