//! A database that is not there at the start, that the network is cut off from, that takes no
//! writes, or that is reached by TLS.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use viaduct_tests::or_skip;
use viaduct_tests::support::authority::{Authority, NO_OPENSSL};
use viaduct_tests::support::digest::{self, User};
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::netns::{NO_NAMESPACE, Namespace};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::postgres::{NO_POSTGRES, Postgres};
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request};
use viaduct_tests::support::storm::{Storm, check};

const DOMAIN: &str = "store.example";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn setup(connection: &str, more: &str, node: &str) -> Result<Setup> {
    let listen = router_address();
    let setup = Setup::new(listen, DOMAIN, policy::shipped("registrar")?);
    let mut setup = setup.in_database(connection, node);
    setup.store.push_str(more);
    setup.trusted = vec!["127.0.0.0/8".to_owned()];
    Ok(setup)
}

fn client(router: &Router) -> Result<SipClient> {
    SipClient::new(Transport::Udp, (own_address(), 5060).into(), router.listen())
}

fn register(client: &mut SipClient, user: &str) -> Result<Received> {
    let contact = format!("sip:{user}@192.0.2.9");
    client.transact(&Request::register(user, DOMAIN, &contact, 3_600))
}

fn contacts(client: &mut SipClient, user: &str) -> Result<Vec<String>> {
    let answer = client.transact(&Request::fetch(user, DOMAIN))?;
    ensure!(answer.status() == Some(200), "asking for {user}:\n{}", answer.text);
    Ok(answer.list("Contact"))
}

fn eventually(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "never: {what}");
    }
    Ok(())
}

#[test]
fn a_router_starts_without_its_database_and_loads_it_when_it_is_there() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut server = or_skip!(Postgres::start(&[])?, "{NO_POSTGRES}");
    for when_down in ["refuse", "accept"] {
        let mut setup = setup(&server.connection(), "", "a")?;
        setup.location_keys = match when_down {
            "accept" => "when_down = \"accept\"",
            _ => "when_down = \"refuse\"",
        };
        let mut router = Router::start(&setup)?;
        let mut phone = client(&router)?;
        let before = format!("before{when_down}");
        assert_eq!(register(&mut phone, &before)?.status(), Some(200));
        assert!(!router.cli(&["status"])?.contains("store trouble"));
        router.stop()?;
        server.kill_hard()?;

        router.start_again()?;
        let status = router.cli(&["status"])?;
        assert!(status.contains("store trouble"), "{status}");
        assert!(status.contains("its bindings are not loaded yet"), "{status}");
        let said = "database: cannot be reached; starting without it and with no bindings";
        router.wait_for_line(said, PATIENCE, |line| line.contains(said))?;
        assert!(contacts(&mut phone, &before)?.is_empty());
        let meanwhile = format!("meanwhile{when_down}");
        let answer = register(&mut phone, &meanwhile)?;
        if when_down == "accept" {
            assert_eq!(answer.status(), Some(200), "{}", answer.text);
        } else {
            assert_eq!(answer.status(), Some(503), "{}", answer.text);
            assert!(answer.header("Retry-After").is_some(), "{}", answer.text);
        }

        server.start_again()?;
        eventually("what was stored is found", || Ok(contacts(&mut phone, &before)?.len() == 1))?;
        eventually("the trouble is over", || {
            Ok(!router.cli(&["status"])?.contains("store trouble"))
        })?;
        eventually("a REGISTER is taken", || {
            Ok(register(&mut phone, "after")?.status() == Some(200))
        })?;
        let there = usize::from(when_down == "accept");
        assert_eq!(contacts(&mut phone, &meanwhile)?.len(), there);
        let rows = format!("SELECT count(*) FROM location WHERE aor = '{meanwhile}@{DOMAIN}'");
        eventually("the database has it too", || Ok(server.sql(&rows)? == there.to_string()))?;
        router.stop()?;
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_the_database_for_good_refuses_the_start() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let server = or_skip!(Postgres::start(&[])?, "{NO_POSTGRES}");
    let connection = server.connection().replace("dbname=viaduct", "dbname=none");
    let fault = Router::start(&setup(&connection, "", "a")?).err().context("it started")?;
    assert!(format!("{fault:#}").contains("database \"none\" does not exist"), "{fault:#}");
    Ok(())
}

/// A server on an address of its own, with a certificate.
fn server_with_tls(authority: &Authority, address: IpAddr) -> Result<Option<Postgres>> {
    let issued = authority.issue(address)?;
    let Some(mut server) = Postgres::start(&[])? else { return Ok(None) };
    let certificate = server.hand_over(&issued.certificate)?;
    let key = server.hand_over(&issued.key)?;
    server.kill_hard()?;
    server.set(&[
        format!("listen_addresses={address}"),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", certificate.display()),
        format!("ssl_key_file={}", key.display()),
    ]);
    server.start_again()?;
    server.sql(&format!(
        "CREATE TABLE subscriber (username text, domain text, password text, ha1 text); \
         INSERT INTO subscriber VALUES ('alice', '{DOMAIN}', 'secret', '')"
    ))?;
    Ok(Some(server))
}

/// `[auth]` with users in that database.
fn users(folder: &Path, connection: &str, tls: &str) -> Result<String> {
    let file = folder.join("users.url");
    fs::write(&file, connection)?;
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let url = file.display();
    Ok(format!("algorithms = [\"MD5\"]\n[auth.postgres]\nurl_file = \"{url}\"\n{tls}"))
}

#[test]
fn bindings_and_users_are_reached_by_tls_and_only_at_a_server_with_the_right_certificate()
-> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let authority = or_skip!(Authority::new()?, "{NO_OPENSSL}");
    let stranger = or_skip!(Authority::new()?, "{NO_OPENSSL}");
    let address = own_address();
    let server = or_skip!(server_with_tls(&authority, address)?, "{NO_POSTGRES}");
    let connection = format!("host={address} user=viaduct dbname=viaduct");
    let believing = |one: &Authority| {
        format!("sslmode = \"verify-full\"\nca_file = \"{}\"\n", one.certificate().display())
    };
    let alice = User { name: "alice", password: "secret" };
    let folder = TempDir::with_prefix("viaduct-tls-")?;

    let mut right = setup(&connection, &believing(&authority), "a")?;
    right.auth = users(folder.path(), &connection, &believing(&authority))?;
    let router = Router::start(&right)?;
    let mut phone = client(&router)?;
    let request = Request::register("alice", DOMAIN, "sip:alice@192.0.2.9", 600);
    let prove = |challenged: &Received| {
        digest::answer(&request, ("REGISTER", &format!("sip:{DOMAIN}")), challenged, alice)
    };
    let challenged = phone.transact(&request)?;
    assert_eq!(challenged.status(), Some(401), "{}", challenged.text);
    let answer = phone.transact(&prove(&challenged)?)?;
    assert_eq!(answer.status(), Some(200), "{}\n{}", answer.text, router.log());
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE NOT ssl AND application_name LIKE 'viaduct%'";
    assert_eq!(server.sql(plain)?, "0");
    // Writing, listening, asking for users.
    let sealed: usize = server.sql(&plain.replace("NOT ssl", "ssl"))?.parse()?;
    assert!(sealed >= 3, "{sealed}");
    drop(router);

    let wrong = setup(&connection, &believing(&stranger), "a")?;
    let fault = format!("{:#}", Router::start(&wrong).err().context("it started")?);
    assert!(fault.contains("invalid peer certificate"), "{fault}");

    let mut wrong = right.clone();
    wrong.auth = users(folder.path(), &connection, &believing(&stranger))?;
    let router = Router::start(&wrong)?;
    let challenged = phone.transact(&request)?;
    let answer = phone.transact(&prove(&challenged)?)?;
    assert_eq!(answer.status(), Some(503), "{}", answer.text);
    router.wait_for_line("why", PATIENCE, |line| {
        line.contains("no credentials") && line.contains("invalid peer certificate")
    })?;
    Ok(())
}

#[test]
fn of_several_servers_the_one_that_takes_writes_is_used() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let (first, second) = (own_address(), own_address());
    let listen = |address| [format!("listen_addresses={address}")];
    let standby = or_skip!(Postgres::start(&listen(first))?, "{NO_POSTGRES}");
    let primary = or_skip!(Postgres::start(&listen(second))?, "{NO_POSTGRES}");
    standby.sql("ALTER SYSTEM SET default_transaction_read_only = on")?;
    standby.sql("SELECT pg_reload_conf()")?;
    eventually("one is read-only", || {
        Ok(standby.sql("SHOW default_transaction_read_only")? == "on")
    })?;
    let connection = format!("host={first},{second} user=viaduct dbname=viaduct");
    let router = Router::start(&setup(&connection, "sslmode = \"disable\"\n", "a")?)?;
    let mut phone = client(&router)?;
    let answer = register(&mut phone, "alice")?;
    assert_eq!(answer.status(), Some(200), "{}", answer.text);
    assert_eq!(primary.sql("SELECT aor FROM location")?, format!("alice@{DOMAIN}"));
    assert_eq!(standby.sql("SELECT to_regclass('location') IS NULL")?, "t");
    Ok(())
}

/// Changes travel in order: once this one has arrived, all before it have.
fn settle(from: &Router, to: &Router) -> Result<()> {
    let (mut here, mut there) = (client(from)?, client(to)?);
    let mark = format!("mark{}", from.listen().ip().to_string().replace('.', "x"));
    eventually("a REGISTER is taken", || Ok(register(&mut here, &mark)?.status() == Some(200)))?;
    eventually("a change travels", || Ok(contacts(&mut there, &mark)?.len() == 1))
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_comes_back_when_the_network_is_cut() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let namespace = or_skip!(Namespace::new()?, "{NO_NAMESPACE}");
    let address = namespace.address();
    let listen = [format!("listen_addresses={address}")];
    let server = or_skip!(Postgres::start_in(namespace.name(), &listen)?, "{NO_POSTGRES}");
    let over_the_cable = format!("host={address} user=viaduct dbname=viaduct");
    let mut a = Router::start(&setup(&over_the_cable, "sslmode = \"disable\"\n", "a")?)?;
    let b = Router::start(&setup(&server.connection(), "", "b")?)?;
    let storm = Storm::start(&[a.listen(), b.listen()], DOMAIN, 4);
    storm.wait_for(2_000)?;

    namespace.cut()?;
    let mut phone = client(&a)?;
    eventually("a refuses", || Ok(register(&mut phone, "late")?.status() == Some(503)))?;
    // b goes on, and so does what a knows.
    storm.wait_for(500)?;
    assert!(contacts(&mut phone, "late")?.is_empty());
    namespace.heal()?;
    eventually("a takes REGISTERs again", || {
        Ok(register(&mut phone, "late")?.status() == Some(200))
    })?;
    storm.wait_for(1_000)?;
    let expected = storm.stop()?;
    settle(&a, &b)?;
    settle(&b, &a)?;
    check(a.listen(), DOMAIN, &expected)?;
    check(b.listen(), DOMAIN, &expected)?;
    // And what the database itself has.
    a.kill_hard()?;
    a.start_again()?;
    check(a.listen(), DOMAIN, &expected)
}

/// Tables as Kamailio and as OpenSIPS make them, but for what nobody reads.
const KAMAILIO: &str = "CREATE TABLE location (id serial PRIMARY KEY, ruid varchar(64) NOT NULL, \
    username varchar(64) NOT NULL, domain varchar(64), contact varchar(512) NOT NULL, \
    received varchar(128), path varchar(512), expires timestamp NOT NULL, q real NOT NULL, \
    callid varchar(255) NOT NULL, cseq integer NOT NULL, last_modified timestamp NOT NULL, \
    user_agent varchar(255) NOT NULL, socket varchar(64), methods integer, \
    instance varchar(255), reg_id integer NOT NULL DEFAULT 0)";
const OPENSIPS: &str = "CREATE TABLE location (contact_id bigserial PRIMARY KEY, \
    username varchar(64) NOT NULL, domain varchar(64), contact text NOT NULL, received varchar(255), \
    path varchar(255), expires integer NOT NULL, q real NOT NULL, callid varchar(255) NOT NULL, \
    cseq integer NOT NULL, last_modified timestamp NOT NULL, user_agent varchar(255) NOT NULL, \
    socket varchar(64), methods integer, sip_instance varchar(255))";

#[test]
fn bindings_and_users_are_taken_over_from_a_live_database() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let later = "(extract(epoch FROM now()) + 3600)::int8";
    let late = format!("to_timestamp({later}) AT TIME ZONE 'UTC'");
    for (tables, extra, expires) in [(KAMAILIO, "ruid, ", late.as_str()), (OPENSIPS, "", later)] {
        let server = or_skip!(Postgres::start(&[])?, "{NO_POSTGRES}");
        server.sql(tables)?;
        let row = |user: &str, contact: &str, expires: &str| {
            let ruid = if extra.is_empty() { String::new() } else { format!("'{user}', ") };
            let columns = "username, domain, contact, received, path, expires, q, callid, cseq, \
                           last_modified, user_agent, socket";
            server.sql(&format!(
                "INSERT INTO location ({extra}{columns}) VALUES ({ruid}'{user}', '{DOMAIN}', \
                 '{contact}', 'sip:192.0.2.77:4000', '<sip:192.0.2.1;lr>', {expires}, -1, 'c', 7, \
                 now(), 'phone', 'udp:192.0.2.2:5060')"
            ))
        };
        row("alice", "sip:alice@10.0.0.1", expires)?;
        row("bob", "mailto:bob", expires)?;
        let past = if extra.is_empty() { "1000" } else { "'2001-01-01 00:00:00'" };
        row("carol", "sip:carol@10.0.0.3", past)?;
        server.sql(&format!(
            "CREATE TABLE subscriber (username text, domain text, password text, ha1 text); \
             INSERT INTO subscriber VALUES ('alice', '{DOMAIN}', 'secret', ''), ('x', '{DOMAIN}', '', '')"
        ))?;

        let listen = router_address();
        let mut router = Router::start(&Setup::new(listen, DOMAIN, policy::shipped("registrar")?))?;
        router.stop()?;
        let folder = TempDir::with_prefix("viaduct-import-")?;
        let file = folder.path().join("users.toml");
        let users = file.to_str().context("a path that is no text")?;
        let import = ["location", "import", &server.connection(), "--users", users];
        let report = router.offline(&import)?;
        for line in [
            "5 rows read; 1 AoRs with 1 bindings stored",
            "1 users written",
            "skipped 1 of location: bad contact (such as bob@store.example mailto:bob)",
            "skipped 1 of location: expired (such as carol@store.example sip:carol@10.0.0.3)",
            "skipped 1 of subscriber: no password (such as x@store.example)",
        ] {
            assert!(report.contains(line), "{line} is not in:\n{report}");
        }
        let written = fs::read_to_string(&file)?;
        assert!(written.contains("name = \"alice\"") && written.contains("secret"), "{written}");
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file)?);
        assert_eq!(mode & 0o777, 0o600);

        router.start_again()?;
        let shown = router.cli(&["location", "show", &format!("alice@{DOMAIN}")])?;
        for text in ["sip:alice@10.0.0.1", "sip:192.0.2.77:4000", "sip:192.0.2.1;lr"] {
            assert!(shown.contains(text), "{text} is not in:\n{shown}");
        }
    }
    Ok(())
}
