//! The life of a policy's versions from the outside: a version that keeps failing goes by itself, domains
//! have policies of their own, and what was decided is recorded and replayed.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use toml::Table;
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request};
use viaduct_tests::support::{policy, skip};

const DOMAIN: &str = "lifecycle.example";
const OTHER: &str = "other.example";
/// How long the guard, which looks once a second, may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

struct Stand {
    router: Router,
    client: SipClient,
    folder: TempDir,
}

impl Stand {
    fn start() -> Result<Self> {
        let mut setup = Setup::new(router_address(), DOMAIN, policy::shipped("registrar")?);
        setup.domains.push(OTHER.to_owned());
        setup.location = "memory";
        let router = Router::start(&setup)?;
        let from = SocketAddr::from((own_address(), 5060));
        let client = SipClient::new(Transport::Udp, from, router.listen())?;
        Ok(Self { router, client, folder: TempDir::with_prefix("viaduct-lifecycle-")? })
    }

    /// The registrar with another version and settings.
    fn variant(&self, version: &str, settings: &[(&str, &str)]) -> Result<String> {
        let file = self.folder.path().join(format!("registrar-{version}.wasm"));
        let change = |manifest: &mut Table| {
            manifest.insert("version".to_owned(), version.into());
            settings.iter().for_each(|(name, value)| policy::set(manifest, name, value));
        };
        let file = policy::copy_with(&policy::shipped("registrar")?, &file, change)?;
        Ok(file.display().to_string())
    }

    fn ask(&mut self, user: &str, domain: &str) -> Result<Received> {
        let uri = format!("sip:{user}@{domain}");
        self.client.transact(&Request::new("MESSAGE", &uri, "sip:tester@test.example", &uri))
    }

    fn register(&mut self, user: &str, domain: &str) -> Result<Received> {
        let contact = self.client.contact(user);
        self.client.transact(&Request::register(user, domain, &contact, 600))
    }
}

#[test]
fn a_version_that_keeps_trapping_is_rolled_back_by_itself_and_says_so() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let folder = TempDir::with_prefix("viaduct-hostile-")?;
    let Some(hostile) = policy::build_own("hostile", folder.path())? else {
        skip::skipped("no compiler for policies (VIADUCT_WASM_RUSTC); run `make test`");
        return Ok(());
    };
    let mut stand = Stand::start()?;
    stand.router.cli(&["policy", "deploy", &hostile.display().to_string()])?;
    let begun = Instant::now();
    while !stand.router.cli(&["policy", "list"])?.contains("rolled back by itself") {
        ensure!(begun.elapsed() < PATIENCE, "it was never rolled back");
        for _ in 0..30 {
            let status = stand.ask("trap", DOMAIN)?.status();
            // 503 by the hostile policy's fallback; 404 and such by the registrar once it is back.
            ensure!(status.is_some_and(|status| status >= 400), "{status:?}");
        }
    }
    ensure!(stand.register("alice", DOMAIN)?.status() == Some(200), "the registrar is not back");
    let told = |line: &str| line.contains("rolled back: it keeps failing");
    stand.router.wait_for_line("the report", PATIENCE, told)?;
    Ok(())
}

#[test]
fn a_domain_has_a_policy_of_its_own_and_a_pin_keeps_it() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut stand = Stand::start()?;
    let closed = stand.variant("7.0.0", &[("users", "nobody")])?;
    let scope = format!("--scope=domain:{OTHER}");
    stand.router.cli(&["policy", "deploy", &closed, &scope])?;
    ensure!(stand.register("alice", DOMAIN)?.status() == Some(200), "{DOMAIN} is another's");
    ensure!(stand.register("alice", OTHER)?.status() == Some(404), "{OTHER} is not its own");
    stand.router.cli(&["policy", "pin", &scope])?;
    let open = stand.variant("7.0.1", &[])?;
    let refused = stand.router.cli(&["policy", "deploy", &open, &scope]);
    let words = format!("{:#}", refused.err().context("the pin was ignored")?);
    ensure!(words.contains("pinned"), "{words}");
    stand.router.cli(&["policy", "unpin", &scope])?;
    stand.router.cli(&["policy", "withdraw", &scope])?;
    ensure!(stand.register("alice", OTHER)?.status() == Some(200), "{OTHER} was not given back");
    let difference = stand.router.cli(&["policy", "diff", "1", &open])?;
    ensure!(difference.contains("+ version = \"7.0.1\""), "{difference}");
    Ok(())
}

#[test]
fn what_was_decided_is_recorded_replayed_and_becomes_a_test() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut stand = Stand::start()?;
    let record = stand.folder.path().join("calls.jsonl");
    record_cases(&mut stand, &record, 6)?;
    let text = fs::read_to_string(&record)?;
    ensure!(text.lines().count() == 7, "a header and 6 cases are not:\n{text}");
    // The same version decides alike; one that knows no alice otherwise.
    let shipped = policy::shipped("registrar")?.display().to_string();
    let record_name = record.display().to_string();
    let same = stand.router.cli(&["replay", &record_name, "--policy", &shipped])?;
    ensure!(same.contains("6 runs: 6 decided alike"), "{same}");
    let strict = stand.variant("7.0.2", &[("users", "nobody")])?;
    let other = stand.router.cli(&["replay", &record_name, "--policy", &strict]);
    let words = format!("{:#}", other.err().context("differences are no failure")?);
    ensure!(words.contains("answered -> reply 404"), "{words}");
    let policy_folder = a_policy_folder(stand.folder.path())?;
    let folder = policy_folder.display().to_string();
    let saved =
        ["replay", &record_name, "--policy", &shipped, "--case", "1", "--save-test", &folder];
    stand.router.cli(&saved)?;
    let files: Vec<_> = fs::read_dir(policy_folder.join("cases"))?.collect();
    ensure!(files.len() == 1, "{files:?}");
    Ok(())
}

/// Registers until the recorder has had enough and ends.
fn record_cases(stand: &mut Stand, file: &Path, cases: u32) -> Result<()> {
    let (file, cases) = (file.display().to_string(), cases.to_string());
    let words = ["record", &file, "--cases", &cases, "--for", "120", "--method", "REGISTER"];
    let Stand { router, client, .. } = stand;
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| router.cli(&words));
        while !recorder.is_finished() {
            let contact = client.contact("alice");
            let answer = client.transact(&Request::register("alice", DOMAIN, &contact, 600))?;
            ensure!(answer.status() == Some(200), "REGISTER:\n{}", answer.text);
        }
        let said = recorder.join().map_err(|_| anyhow::anyhow!("the recorder panicked"))??;
        ensure!(said.contains("6 runs"), "{said}");
        Ok(())
    })
}

fn a_policy_folder(within: &Path) -> Result<PathBuf> {
    let folder = within.join("mine");
    fs::create_dir(&folder)?;
    fs::write(folder.join("policy.toml"), "name = \"mine\"\nversion = \"1.0.0\"\n")?;
    Ok(folder)
}
