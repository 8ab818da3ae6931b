//! A policy cannot hurt the router: one that loops, traps, eats memory or returns garbage ends its
//! own request by the manifest's fallback, and the requests beside it are served as ever.

#[path = "../../router/policy/tests/common/guest.rs"]
mod guest;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use guest::Guest;
use tempfile::TempDir;
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request};
use viaduct_tests::support::skip::{find_program, skipped};

const DOMAIN: &str = "hostile.example";
/// How often each deed is done: more than there are pooled instances, so that one lost for good
/// each time would show.
const TIMES: usize = 20;
/// How long a line of the log is waited for: it is written before the answer, and read behind it.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    router: Router,
    _folder: TempDir,
}

/// A router with `tests/policies/hostile`, started by these words, if any; `None` where that cannot be
/// had, which is told.
fn start(launcher: &[&str]) -> Result<Option<Bench>> {
    if router::binary().is_none() {
        skipped(router::NO_BINARY);
        return Ok(None);
    }
    let folder = TempDir::with_prefix("viaduct-hostile-")?;
    let Some(component) = policy::build_own("hostile", folder.path())? else {
        skipped("no compiler for policies (VIADUCT_WASM_RUSTC); run `make test`");
        return Ok(None);
    };
    let mut setup = Setup::new(router_address(), DOMAIN, component);
    setup.location = "memory";
    // Two workers, so that one busy with a bad run must not be the only one.
    setup.workers = 2;
    setup.launcher = launcher.iter().map(|&word| word.to_owned()).collect();
    Ok(Some(Bench { router: Router::start(&setup)?, _folder: folder }))
}

fn client(server: SocketAddr) -> Result<SipClient> {
    SipClient::new(Transport::Udp, (own_address(), 5060).into(), server)
}

/// Asks the policy for a deed.
fn deed(client: &mut SipClient, name: &str) -> Result<Received> {
    let uri = format!("sip:{name}@{DOMAIN}");
    client.transact(&Request::new("MESSAGE", &uri, "sip:tester@test.example", &uri))
}

fn refused_by_fallback(answer: &Received, name: &str) -> Result<()> {
    ensure!(
        answer.status() == Some(503),
        "{name} should end by the fallback 503:\n{}",
        answer.text
    );
    clean(answer, name)
}

/// Nothing of the policy's garbage is in the answer.
fn clean(answer: &Received, name: &str) -> Result<()> {
    ensure!(answer.header("Injected").is_none(), "{name} has injected:\n{}", answer.text);
    ensure!(answer.headers("Via").len() == 1, "{name} has touched Via:\n{}", answer.text);
    ensure!(answer.cseq_method() == Some("MESSAGE"), "{name}: CSeq in\n{}", answer.text);
    Ok(())
}

/// Does each deed many times while another client's requests go on undisturbed. `kinds` are those the
/// log and the metrics must name afterwards.
fn deeds(
    names: &[&str],
    kinds: &[&str],
    judge: impl Fn(&Received, &str) -> Result<()>,
) -> Result<Option<Bench>> {
    let Some(bench) = start(&[])? else { return Ok(None) };
    done(&bench, names, kinds, judge)?;
    Ok(Some(bench))
}

fn done(
    bench: &Bench,
    names: &[&str],
    kinds: &[&str],
    judge: impl Fn(&Received, &str) -> Result<()>,
) -> Result<()> {
    let server = bench.router.listen();
    let (mut bad, mut good) = (client(server)?, client(server)?);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (is_served, served) = mpsc::channel();
        let innocent = scope.spawn(|| serve_others(&mut good, &over, is_served));
        // Ended without a word where it has failed, which is told below.
        let _ = served.recv();
        let done = names
            .iter()
            .try_for_each(|name| (0..TIMES).try_for_each(|_| judge(&deed(&mut bad, name)?, name)));
        over.store(true, Ordering::SeqCst);
        let served = innocent.join().map_err(|_| anyhow::anyhow!("the other client panicked"))?;
        done?;
        served
    })?;
    for kind in kinds {
        let label = format!("kind=\"{kind}\"");
        bench.router.wait_for_metric_of("policy_failures", &label, 1)?;
        let named = |line: &str| {
            line.contains("policy run failed")
                && line.to_lowercase().contains(&format!("kind={kind}"))
        };
        bench.router.wait_for_line(kind, PATIENCE, named)?;
    }
    bench.router.check_alive()
}

/// Registers and asks again, over and over; every answer must be 200. Tells each time it is served, and
/// is once more when it is over.
fn serve_others(
    client: &mut SipClient,
    over: &AtomicBool,
    is_served: mpsc::Sender<()>,
) -> Result<()> {
    loop {
        let is_last = over.load(Ordering::SeqCst);
        let contact = client.contact("good");
        let answer = client.transact(&Request::register("good", DOMAIN, &contact, 600))?;
        ensure!(answer.status() == Some(200), "another's REGISTER suffered:\n{}", answer.text);
        let answer = deed(client, "good")?;
        ensure!(answer.status() == Some(200), "another's MESSAGE suffered:\n{}", answer.text);
        if is_last {
            return Ok(());
        }
        let _ = is_served.send(());
    }
}

#[test]
fn a_policy_that_never_ends_is_stopped() -> Result<()> {
    deeds(&["loop"], &["fuel"], refused_by_fallback).map(drop)
}

#[test]
fn a_policy_that_traps_ends_its_own_request_only() -> Result<()> {
    deeds(&["trap", "wild"], &["trap"], refused_by_fallback).map(drop)
}

/// Where there is no address space to keep a guest's pointers apart by, each access is checked.
#[test]
fn with_little_address_space_a_policy_is_confined_all_the_same() -> Result<()> {
    or_skip!(find_program("prlimit"), "prlimit (util-linux) is not installed");
    let little = format!("--as={}", 32_u64 << 30);
    let Some(bench) = start(&["prlimit", &little])? else { return Ok(()) };
    let checked = "accesses of policies are checked";
    bench.router.wait_for_line(checked, PATIENCE, |line| line.contains(checked))?;
    done(&bench, &["wild", "memory", "stack"], &["memory", "trap"], refused_by_fallback)
}

#[test]
fn a_policy_that_eats_memory_or_stack_is_stopped() -> Result<()> {
    deeds(&["memory", "stack"], &["memory", "trap"], refused_by_fallback).map(drop)
}

#[test]
fn garbage_from_a_policy_never_reaches_the_wire() -> Result<()> {
    deeds(
        &["status", "reason", "header", "target", "many-targets"],
        &["garbage"],
        |answer, name| {
            let status = answer.status().context("no status")?;
            ensure!((400..=599).contains(&status), "{name} gave\n{}", answer.text);
            clean(answer, name)
        },
    )
    .map(drop)
}

#[test]
fn a_flood_of_host_calls_is_ended_and_named() -> Result<()> {
    let Some(bench) = deeds(&["calls"], &["trap"], refused_by_fallback)? else { return Ok(()) };
    let limit = "more than 1000 host calls in a run";
    bench.router.wait_for_line(limit, PATIENCE, |line| line.contains(limit)).map(drop)
}

#[test]
fn a_value_no_type_has_and_a_text_longer_than_memory_end_the_run() -> Result<()> {
    deeds(&["level", "long-text"], &["garbage"], refused_by_fallback).map(drop)
}

/// What a policy may go on after is named too: by a counter, and in the log by the call that was
/// refused.
#[test]
fn forbidden_edits_and_floods_of_a_table_are_refused_and_named() -> Result<()> {
    let refused = |answer: &Received, name: &str| {
        ensure!(answer.status() == Some(480), "{name} gave\n{}", answer.text);
        clean(answer, name)
    };
    let Some(bench) = deeds(&["edit", "table-flood"], &[], refused)? else { return Ok(()) };
    let router = &bench.router;
    // 16 edits and a header of the reply; 900 entries, of which one run may change 32. Of a run 32
    // counts are kept.
    let times = u64::try_from(TIMES)?;
    let forbidden =
        router.wait_for_metric_of("policy_counter", "name=\"refused_forbidden\"", 17 * times)?;
    ensure!(forbidden == 17 * times, "{forbidden} edits refused");
    let flood =
        router.wait_for_metric_of("policy_counter", "name=\"refused_too-large\"", 32 * times)?;
    ensure!(flood == 32 * times, "{flood} table entries refused");
    for call in ["message.add-header refused: forbidden", "table.set refused: too-large"] {
        router.wait_for_line(call, PATIENCE, |line| line.contains(call))?;
    }
    Ok(())
}

#[test]
fn components_that_are_refused_are_named_and_the_live_one_stays() -> Result<()> {
    let Some(bench) = start(&[])? else { return Ok(()) };
    let hang = "(func $s (loop $l (br $l))) (start $s)";
    let hangs = Guest { rest: hang, ..Guest::default() }.build(&guest::manifest(""));
    // Nobody reads 500 MB to their end before refusing them.
    let refused = [
        ("size", "413", vec![0; 500 << 20]),
        ("package", "4", b"no WebAssembly".to_vec()),
        ("resources", "4", guest::by_hand(guest::MAKES_RESOURCES)),
        ("start", "4", hangs),
    ];
    for (kind, status, component) in refused {
        let answer = bench.router.admin_post("/v1/policy", &component)?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{kind}: {answer}");
        let count = bench.router.metric_of("policy_refused", &format!("kind=\"{kind}\""))?;
        ensure!(count == 1, "{kind}: {count}");
        let named = |line: &str| {
            line.contains("policy refused:") && line.contains(&format!("kind=\"{kind}\""))
        };
        bench.router.wait_for_line(kind, PATIENCE, named)?;
    }
    ensure!(deed(&mut client(bench.router.listen())?, "good")?.status() == Some(200), "not served");
    Ok(())
}

#[test]
fn what_a_run_staged_before_it_trapped_does_not_take_effect() -> Result<()> {
    let Some(bench) = start(&[])? else { return Ok(()) };
    let mut client = client(bench.router.listen())?;
    let aor = format!("sip:victim@{DOMAIN}");
    let request = Request::new("REGISTER", &format!("sip:save-then-trap@{DOMAIN}"), &aor, &aor)
        .with("Contact", "<sip:victim@192.0.2.1>");
    let answer = client.transact(&request)?;
    ensure!(answer.status() == Some(503), "should end by the fallback:\n{}", answer.text);
    let bindings = client.transact(&Request::fetch("victim", DOMAIN))?;
    ensure!(bindings.status() == Some(200), "asking for bindings:\n{}", bindings.text);
    ensure!(bindings.header("Contact").is_none(), "the save took effect:\n{}", bindings.text);
    Ok(())
}
