//! Digest authentication with real peers: SIPp and baresip with passwords, users in a file and in a
//! real PostgreSQL, which is slow, or down, or changed meanwhile.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use viaduct_tests::or_skip;
use viaduct_tests::support::digest::{self, User};
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::phone::{self, Phone};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::postgres::{NO_POSTGRES, Postgres};
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request};
use viaduct_tests::support::sipp::{self, Sipp};

const DOMAIN: &str = "auth.example";
const ALICE: User<'static> = User { name: "alice", password: "secret" };
/// For what a real program does in its own time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file that only its owner may read.
fn private(folder: &Path, name: &str, text: &str) -> Result<String> {
    let file = folder.join(name);
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(file.display().to_string())
}

/// A registrar whose users are alice (a password) and bob (a hash for MD5 alone).
fn with_file(folder: &Path, more: &str) -> Result<Router> {
    let text = format!(
        "[[user]]\nname = \"alice\"\nrealm = \"{DOMAIN}\"\npassword = \"secret\"\n\
         [[user]]\nname = \"bob\"\nrealm = \"{DOMAIN}\"\nmd5 = \"{}\"\n",
        digest::ha1("bob", DOMAIN, "other")
    );
    let file = private(folder, "users.toml", &text)?;
    start(&format!("users_file = \"{file}\"\n{more}"))
}

fn start(auth: &str) -> Result<Router> {
    let mut setup = Setup::new(router_address(), DOMAIN, policy::shipped("registrar")?);
    setup.location = "memory";
    auth.clone_into(&mut setup.auth);
    Router::start(&setup)
}

fn client(router: &Router) -> Result<SipClient> {
    SipClient::new(Transport::Udp, (own_address(), 0).into(), router.listen())
}

/// REGISTER without credentials, then with: the answer to the second.
fn register(client: &mut SipClient, user: User<'_>) -> Result<Received> {
    // Who attacks by the user name of the credentials has an address like anybody.
    let plain = user.name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let aor = if plain { user.name } else { "mallory" };
    let request = Request::register(aor, DOMAIN, &client.contact(aor), 600);
    let challenged = client.transact(&request)?;
    ensure!(challenged.status() == Some(401), "{}", challenged.text);
    client.transact(&answered(&request, &challenged, user)?)
}

fn answered(request: &Request, challenged: &Received, user: User<'_>) -> Result<Request> {
    digest::answer(request, ("REGISTER", &format!("sip:{DOMAIN}")), challenged, user)
}

fn status(client: &mut SipClient, user: User<'_>) -> Result<u16> {
    register(client, user)?.status().context("no status")
}

/// A number of `viaduct auth show`.
fn shown(router: &Router, name: &str) -> Result<u64> {
    let text = router.cli(&["auth", "show", "--json"])?;
    let value: Value = serde_json::from_str(&text)?;
    value.get(name).and_then(Value::as_u64).with_context(|| format!("no {name} in {text}"))
}

#[test]
fn a_wrong_password_is_refused_and_logged_for_fail2ban() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let folder = TempDir::with_prefix("viaduct-auth-")?;
    let router = with_file(folder.path(), "")?;
    let mut phone = client(&router)?;
    let mallory = User { name: "mall\" x=\"ory", password: "?" };
    for user in [User { password: "wrong", ..ALICE }, mallory] {
        assert_eq!(status(&mut phone, user)?, 401);
    }
    assert_eq!(status(&mut phone, ALICE)?, 200);
    assert_eq!(status(&mut phone, User { name: "bob", password: "other" })?, 200);
    let line = format!(
        "auth-refused source={} method=\"REGISTER\" realm=\"{DOMAIN}\" user=\"alice\"",
        phone.local()
    );
    router.wait_for_line("the line of fail2ban", PATIENCE, |said| said.contains(&line))?;
    ensure!(!router.log().contains("secret"), "{}", router.log());
    router.check_alive()
}

/// A record holds what came of a check, not the password: a replay needs no users.
#[test]
fn what_was_decided_about_credentials_is_replayed_as_it_was() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let folder = TempDir::with_prefix("viaduct-auth-")?;
    let router = with_file(folder.path(), "")?;
    let mut phone = client(&router)?;
    let record = folder.path().join("checks.jsonl").display().to_string();
    let words = ["record", &record, "--cases", "6", "--for", "120", "--method", "REGISTER"];
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| router.cli(&words));
        while !recorder.is_finished() {
            ensure!(status(&mut phone, ALICE)? == 200, "alice is not let in");
            ensure!(status(&mut phone, User { password: "wrong", ..ALICE })? == 401, "mallory is");
        }
        recorder.join().map_err(|_| anyhow::anyhow!("the recorder panicked"))?
    })?;
    let kept = fs::read_to_string(&record)?;
    ensure!(!kept.contains("secret"), "a password was recorded:\n{kept}");
    let shipped = policy::shipped("registrar")?.display().to_string();
    let same = router.cli(&["replay", &record, "--policy", &shipped])?;
    ensure!(same.contains("6 runs: 6 decided alike"), "{same}\n{kept}");
    router.check_alive()
}

#[test]
fn sipp_registers_and_calls_a_baresip_phone_both_with_passwords() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(phone::installed(), "baresip-core is not installed");
    let folder = TempDir::with_prefix("viaduct-auth-")?;
    for transport in [Transport::Udp, Transport::Tcp] {
        // SIPp 3.6 and baresip 1.0 give up at a challenge with another algorithm than MD5.
        let router = with_file(folder.path(), "algorithms = [\"MD5\"]\n")?;
        let server = router.listen();
        let at = (own_address(), 5064).into();
        let bob = Phone::start_with_password("bob", DOMAIN, "other", transport, at, server)?;
        bob.wait_until_registered()?;
        alice_calls_bob(transport, server)?;
        bob.wait_until_hung_up()?;
        router.check_alive()?;
    }
    Ok(())
}

/// SIPp registers as alice and calls bob, with its password each time.
fn alice_calls_bob(transport: Transport, server: SocketAddr) -> Result<()> {
    let alice = SocketAddr::from((own_address(), 5062));
    let sipp = |scenario: &str, service: &str, uri: &str| {
        Sipp::new(scenario, transport, alice)
            .to(server)
            .service(service)
            .key("domain", DOMAIN)
            .key("contact", &alice.to_string())
            .auth_uri(uri)
            .trace_messages()
            .run()
    };
    sipp("register-auth", "alice", DOMAIN)?.all_good("alice registers", 1)?;
    sipp("call-auth.uac", "bob", &format!("bob@{DOMAIN}"))?.all_good("alice calls", 1)
}

/// PostgreSQL with users as Kamailio (`password`, `ha1`) or OpenSIPS (hashes) keep them.
fn database(columns: &str) -> Result<Option<Postgres>> {
    let Some(server) = Postgres::start(&[])? else { return Ok(None) };
    server.sql(&format!(
        "CREATE TABLE subscriber (id serial PRIMARY KEY, username varchar(64) NOT NULL, \
         domain varchar(64) NOT NULL, password varchar(64) DEFAULT '', \
         ha1 varchar(128) NOT NULL DEFAULT ''{columns})"
    ))?;
    server.sql(&format!(
        "INSERT INTO subscriber (username, domain, password, ha1) VALUES \
         ('alice', '{DOMAIN}', 'secret', ''), ('bob', '{DOMAIN}', '', '{}')",
        digest::ha1("bob", DOMAIN, "other")
    ))?;
    Ok(Some(server))
}

fn with_database(folder: &Path, server: &Postgres, more: &str) -> Result<Router> {
    let url = private(folder, "users.url", &server.connection())?;
    start(&format!("{more}[auth.postgres]\nurl_file = \"{url}\"\n"))
}

#[test]
fn users_of_kamailio_and_of_opensips_are_found_in_their_table() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let opensips = ", ha1_sha256 varchar(128) NOT NULL DEFAULT '', \
                    ha1_sha512t256 varchar(128) NOT NULL DEFAULT ''";
    for columns in ["", opensips] {
        let server = or_skip!(database(columns)?, "{NO_POSTGRES}");
        let folder = TempDir::with_prefix("viaduct-auth-")?;
        let router = with_database(folder.path(), &server, "")?;
        let mut phone = client(&router)?;
        assert_eq!(status(&mut phone, ALICE)?, 200);
        assert_eq!(status(&mut phone, User { name: "bob", password: "other" })?, 200);
        let injection = User { name: "x' OR '1'='1", password: "secret" };
        for user in [User { password: "wrong", ..ALICE }, injection] {
            assert_eq!(status(&mut phone, user)?, 401);
        }
        assert_eq!(shown(&router, "cached_users")?, 2);
        assert_eq!(shown(&router, "cached_absent")?, 1);
        assert_eq!(shown(&router, "asked")?, 3, "who is cached is not asked for again");
    }
    Ok(())
}

#[test]
fn a_changed_password_counts_after_a_flush() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let server = or_skip!(database("")?, "{NO_POSTGRES}");
    let folder = TempDir::with_prefix("viaduct-auth-")?;
    let router = with_database(folder.path(), &server, "cache_users_s = 86400\n")?;
    let mut phone = client(&router)?;
    assert_eq!(status(&mut phone, ALICE)?, 200);
    server.sql("UPDATE subscriber SET password = 'changed' WHERE username = 'alice'")?;
    let changed = User { password: "changed", ..ALICE };
    assert_eq!(status(&mut phone, changed)?, 401, "what is cached still counts");
    let said = router.cli(&["auth", "flush", &format!("alice@{DOMAIN}")])?;
    assert_eq!(said, "1 entry forgotten\n");
    assert_eq!(status(&mut phone, changed)?, 200);
    assert_eq!(status(&mut phone, ALICE)?, 401);
    assert_eq!(router.cli(&["auth", "flush"])?, "1 entry forgotten\n");
    Ok(())
}

#[test]
fn a_database_that_answers_after_2_s_holds_up_nobody_else() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let server = or_skip!(database("")?, "{NO_POSTGRES}");
    server.sql(
        "ALTER TABLE subscriber RENAME TO users; \
         CREATE VIEW subscriber AS SELECT users.username, users.domain, users.password, users.ha1 \
         FROM users, (SELECT pg_sleep(2) OFFSET 0) AS late",
    )?;
    let folder = TempDir::with_prefix("viaduct-auth-")?;
    let more = "users_file = \"quick.toml\"\nwait_ms = 30000\n";
    let quick = "[[user]]\nname = \"carol\"\nrealm = \"auth.example\"\npassword = \"quick\"\n";
    let file = private(folder.path(), "quick.toml", quick)?;
    let more = more.replace("quick.toml", &file);
    let router = with_database(folder.path(), &server, &more)?;
    let (mut slow, mut other) = (client(&router)?, client(&router)?);
    let request = Request::register("alice", DOMAIN, &slow.contact("alice"), 600);
    let challenged = slow.transact(&request)?;
    slow.send(&answered(&request, &challenged, ALICE)?)?;
    let deadline = Instant::now() + PATIENCE;
    while shown(&router, "under_way")? == 0 {
        ensure!(Instant::now() < deadline, "the database is not asked:\n{}", router.log());
    }
    // The other phones' Call-IDs spread over all workers.
    let mut served = 0;
    while shown(&router, "under_way")? == 1 {
        for _ in 0..5 {
            let options = Request::new(
                "OPTIONS",
                &format!("sip:{DOMAIN}"),
                "sip:dave@elsewhere.example",
                &format!("sip:{DOMAIN}"),
            );
            assert_eq!(other.transact(&options)?.status(), Some(200));
            assert_eq!(status(&mut other, User { name: "carol", password: "quick" })?, 200);
            served += 1;
        }
    }
    let last = slow.expect("the answer", PATIENCE, |message| message.status() != Some(100))?;
    assert_eq!(last.status(), Some(200), "{}", last.text);
    ensure!(served >= 5, "only {served} others were served meanwhile");
    Ok(())
}

#[test]
fn a_database_that_is_down_gives_503_and_is_found_again() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut server = or_skip!(database("")?, "{NO_POSTGRES}");
    let folder = TempDir::with_prefix("viaduct-auth-")?;
    let router = with_database(folder.path(), &server, "cache_users_s = 0\n")?;
    let mut phone = client(&router)?;
    assert_eq!(status(&mut phone, ALICE)?, 200);
    server.kill_hard()?;
    let refused = register(&mut phone, ALICE)?;
    assert_eq!(refused.status(), Some(503), "{}", refused.text);
    ensure!(refused.header("Retry-After").is_some(), "{}", refused.text);
    // Who asks for nobody is served as before.
    let options = Request::new("OPTIONS", &format!("sip:{DOMAIN}"), "sip:a@b.example", "sip:x@y");
    assert_eq!(phone.transact(&options)?.status(), Some(200));
    server.start_again()?;
    let deadline = Instant::now() + PATIENCE;
    while status(&mut phone, ALICE)? != 200 {
        ensure!(Instant::now() < deadline, "not found again:\n{}", router.log());
    }
    Ok(())
}

/// A registrar that keeps its users itself.
fn with_store() -> Result<Router> {
    start("users_store = \"users.redb\"\n")
}

fn refusal(result: Result<String>) -> Result<String> {
    match result {
        Ok(said) => anyhow::bail!("not refused: {said}"),
        Err(fault) => Ok(format!("{fault:#}")),
    }
}

#[test]
fn a_user_of_the_routers_own_store_is_added_changed_and_removed_at_once() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut router = with_store()?;
    let mut phone = client(&router)?;
    // That nobody has the name is in the cache by now.
    assert_eq!(status(&mut phone, ALICE)?, 401);
    let user = format!("alice@{DOMAIN}");
    router.cli_with(&["user", "add", &user], "secret\n")?;
    assert_eq!(status(&mut phone, ALICE)?, 200);
    let twice = refusal(router.cli_with(&["user", "add", &user], "secret\n"))?;
    ensure!(twice.contains("is there already"), "{twice}");
    let folder = TempDir::with_prefix("viaduct-auth-")?;
    let file = private(folder.path(), "password", "changed\n")?;
    router.cli(&["user", "passwd", &user, "--password-file", &file])?;
    assert_eq!(status(&mut phone, ALICE)?, 401);
    assert_eq!(status(&mut phone, User { password: "changed", ..ALICE })?, 200);
    let listed = router.cli(&["user", "list"])?;
    assert_eq!(listed, format!("{user}  SHA-256, SHA-512-256, MD5\n"));
    assert_eq!(shown(&router, "store_users")?, 1);
    router.kill_hard()?;
    router.start_again()?;
    assert_eq!(status(&mut phone, User { password: "changed", ..ALICE })?, 200);
    router.cli(&["user", "remove", &user])?;
    assert_eq!(status(&mut phone, User { password: "changed", ..ALICE })?, 401);
    let gone = refusal(router.cli(&["user", "remove", &user]))?;
    ensure!(gone.contains("there is no user"), "{gone}");
    // Without a router the file is worked on itself; with one it is in use.
    let busy = refusal(router.offline(&["user", "list", "--offline"]))?;
    ensure!(busy.contains("in use by another process"), "{busy}");
    for secret in ["secret", "changed"] {
        ensure!(!router.log().contains(secret), "{}", router.log());
    }
    router.stop()?;
    assert_eq!(router.offline(&["user", "list", "--offline"])?, "");
    Ok(())
}

#[test]
fn real_phones_register_and_call_as_users_of_the_routers_own_store() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(phone::installed(), "baresip-core is not installed");
    let router = with_store()?;
    for (user, password) in [("alice", "secret"), ("bob", "other")] {
        router.cli_with(&["user", "add", &format!("{user}@{DOMAIN}")], password)?;
    }
    let at = (own_address(), 5064).into();
    let bob =
        Phone::start_with_password("bob", DOMAIN, "other", Transport::Udp, at, router.listen())?;
    bob.wait_until_registered()?;
    alice_calls_bob(Transport::Udp, router.listen())?;
    bob.wait_until_hung_up()?;
    router.check_alive()
}
