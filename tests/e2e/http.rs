//! A policy asks an HTTP service where a number is to be reached: a quick one, a slow one beside which
//! other traffic flows, one that never answers, and one over TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use toml::{Table, Value};
use viaduct_tests::or_skip;
use viaduct_tests::support::authority::{Authority, NO_OPENSSL};
use viaduct_tests::support::http_server::{Answer, HttpServer};
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{self, Received, Request};

const DOMAIN: &str = "numbers.example";
const PATIENCE: Duration = Duration::from_secs(30);
/// Calls that wait for the slow service.
const SLOW: usize = 50;
/// Requests that are served meanwhile.
const OTHERS: usize = 200;

struct Stand {
    router: Router,
    service: HttpServer,
    caller: SipClient,
    callee: SipClient,
    folder: TempDir,
}

impl Stand {
    /// `patience_ms`: what the policy allows the service.
    fn start(patience_ms: &str) -> Result<Self> {
        let callee_at = SocketAddr::from((own_address(), 5064));
        let service = HttpServer::start((own_address(), 0).into(), numbers(callee_at))?;
        Self::start_with(service, callee_at, patience_ms, "")
    }

    /// The service speaks TLS with a certificate of `issuer`; the router believes `believed`.
    fn start_tls(issuer: &Authority, believed: &Authority) -> Result<Self> {
        let (callee_at, address) = (SocketAddr::from((own_address(), 5064)), own_address());
        let issued = issuer.issue(address)?;
        let service = HttpServer::start_tls((address, 0).into(), &issued, numbers(callee_at))?;
        let ca_file = format!("ca_file = \"{}\"\n", believed.certificate().display());
        Self::start_with(service, callee_at, "20000", &ca_file)
    }

    fn start_with(
        service: HttpServer,
        callee_at: SocketAddr,
        patience_ms: &str,
        http_keys: &str,
    ) -> Result<Self> {
        let folder = TempDir::with_prefix("viaduct-http-")?;
        let url = service.url();
        let file = folder.path().join("number-lookup.wasm");
        let change = |manifest: &mut Table| {
            policy::set(manifest, "service", &url);
            policy::set(manifest, "patience_ms", patience_ms);
            if let Some(grants) = manifest.get_mut("grants").and_then(Value::as_table_mut) {
                grants.insert("http".to_owned(), Value::Array(vec![url.clone().into()]));
            }
        };
        let component = policy::copy_with(&policy::shipped("number-lookup")?, &file, change)?;
        let mut setup = Setup::new(router_address(), DOMAIN, component);
        setup.location = "memory";
        // So that a busy machine is no slow service.
        let sections = format!("[http]\ntimeout_ms = 25000\nwait_ms = 30000\n{http_keys}");
        setup.sections = sections.leak();
        let router = Router::start(&setup)?;
        let server = router.listen();
        let caller = SipClient::new(Transport::Udp, (own_address(), 5062).into(), server)?;
        let callee = SipClient::new(Transport::Udp, callee_at, server)?;
        Ok(Self { router, service, caller, callee, folder })
    }

    fn outcome(&self, outcome: &str) -> Result<u64> {
        self.router.metric_of("http_requests", &format!("outcome=\"{outcome}\""))
    }
}

/// What the service knows of a number.
fn numbers(callee_at: SocketAddr) -> impl Fn(&str) -> Answer + Send + Sync + 'static {
    let place = format!("sip:someone@{callee_at}");
    move |target| match target.split(['=', '&']).nth(1).unwrap_or_default() {
        "quick" => Answer::Now(200, place.clone()),
        "slow" => Answer::Held(404, String::new()),
        "mute" => Answer::Never,
        _ => Answer::Now(404, String::new()),
    }
}

fn message(number: &str) -> Request {
    let uri = format!("sip:{number}@{DOMAIN}");
    Request::new("MESSAGE", &uri, "sip:caller@elsewhere.example", &uri)
}

#[test]
fn a_call_goes_where_the_service_says() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    goes_where_the_service_says(Stand::start("20000")?)
}

#[test]
fn over_tls_a_service_whose_authority_is_believed_is_asked() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let authority = or_skip!(Authority::new()?, "{}", NO_OPENSSL);
    goes_where_the_service_says(Stand::start_tls(&authority, &authority)?)
}

#[test]
fn over_tls_a_service_of_another_authority_is_told_nothing() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let issuer = or_skip!(Authority::new()?, "{}", NO_OPENSSL);
    let believed = or_skip!(Authority::new()?, "{}", NO_OPENSSL);
    let mut stand = Stand::start_tls(&issuer, &believed)?;
    let answer = stand.caller.transact(&message("quick"))?;
    ensure!(answer.status() == Some(503), "{}", answer.text);
    ensure!(stand.outcome("unreachable")? == 1, "the service was reached");
    ensure!(stand.service.asked().is_empty(), "it was told {:?}", stand.service.asked());
    Ok(())
}

fn goes_where_the_service_says(mut stand: Stand) -> Result<()> {
    stand.caller.send(&message("quick"))?;
    let is_message = |message: &Received| message.method() == Some("MESSAGE");
    let request = stand.callee.expect("the MESSAGE", PATIENCE, is_message)?;
    stand.callee.send_raw(sip_text::response(&request, "200 OK", "callee", &[]).as_bytes())?;
    let answered = |message: &Received| message.status() == Some(200);
    stand.caller.expect("the 200 of the callee", PATIENCE, answered)?;
    ensure!(stand.service.asked() == ["/route?number=quick&caller=caller"], "{:?}", stand.service);
    let unknown = stand.caller.transact(&message("4711"))?;
    ensure!(unknown.status() == Some(404), "{}", unknown.text);
    ensure!(stand.outcome("ok")? == 2, "two requests went well");
    Ok(())
}

#[test]
fn others_are_served_while_calls_wait_for_a_slow_service() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut stand = Stand::start("20000")?;
    let mut slow =
        SipClient::new(Transport::Udp, (own_address(), 0).into(), stand.router.listen())?;
    for _ in 0..SLOW {
        slow.send(&message("slow"))?;
    }
    stand.service.wait_until_held(SLOW, PATIENCE)?;
    let uri = format!("sip:{DOMAIN}");
    for number in 0..OTHERS {
        // Without the service, and with it.
        let options = Request::new("OPTIONS", &uri, "sip:caller@elsewhere.example", &uri);
        let answer = stand.caller.transact(&options)?;
        ensure!(answer.status() == Some(200), "OPTIONS {number}:\n{}", answer.text);
        let answer = stand.caller.transact(&message("4711"))?;
        ensure!(answer.status() == Some(404), "MESSAGE {number}:\n{}", answer.text);
    }
    stand.service.release();
    for number in 0..SLOW {
        let is_final = |message: &Received| message.status().is_some_and(|status| status >= 200);
        let answer = slow.expect("an answer", PATIENCE, is_final)?;
        ensure!(answer.status() == Some(404), "slow call {number}:\n{}", answer.text);
    }
    let asked = stand.service.asked().iter().filter(|target| target.contains("slow")).count();
    ensure!(asked == SLOW, "{SLOW} calls asked {asked} times");
    Ok(())
}

#[test]
fn a_service_that_never_answers_is_given_up() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut stand = Stand::start("300")?;
    let answer = stand.caller.transact(&message("mute"))?;
    ensure!(answer.status() == Some(503), "{}", answer.text);
    ensure!(answer.header("Retry-After") == Some("5"), "{}", answer.text);
    ensure!(stand.outcome("timeout")? == 1, "it is no time-out");
    stand.router.check_alive()
}

#[test]
fn what_the_service_said_is_recorded_and_replayed() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut stand = Stand::start("20000")?;
    let record = stand.folder.path().join("numbers.jsonl").display().to_string();
    let Stand { router, caller, .. } = &mut stand;
    let words = ["record", &record, "--cases", "3", "--for", "120"];
    std::thread::scope(|scope| -> Result<()> {
        let recorder = scope.spawn(|| router.cli(&words));
        while !recorder.is_finished() {
            let answer = caller.transact(&message("4711"))?;
            ensure!(answer.status() == Some(404), "{}", answer.text);
        }
        recorder.join().map_err(|_| anyhow::anyhow!("the recorder panicked"))??;
        Ok(())
    })?;
    let text = std::fs::read_to_string(&record)?;
    ensure!(text.contains("/route?number=4711"), "the request is not in\n{text}");
    let component = stand.folder.path().join("number-lookup.wasm").display().to_string();
    let asked = stand.service.asked().len();
    let same = stand.router.cli(&["replay", &record, "--policy", &component])?;
    ensure!(same.contains("3 runs: 3 decided alike"), "{same}");
    ensure!(stand.service.asked().len() == asked, "a replay asks nobody");
    Ok(())
}
