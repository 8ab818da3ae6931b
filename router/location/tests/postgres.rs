//! Bindings in a real PostgreSQL: what two services on one database see of each other, and what is
//! left when connections and servers die.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers fail by panic

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::database::*;
use common::*;
use tokio_postgres::AsyncMessage;
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::{Change, CommitFault, ConnId, Location as _, Transport};
use viaduct_location::{Backend, Config, LocationService, Mode, OpenError, PostgresConfig};
use viaduct_tests::support::postgres::Postgres;

fn refusal(config: &Config) -> String {
    match LocationService::open(config, now_ms()) {
        Err(OpenError::Store(fault)) => fault.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

/// Adds a contact as a REGISTER does: computed again until no other change came first.
fn add(service: &LocationService, aor: &str, contact: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let before = service.latest("location", aor.as_bytes());
        let mut all = before.set.unwrap_or_default().bindings.to_vec();
        all.push(binding(contact, now_ms() + 3_600_000));
        let set = Arc::new(BindingSet { bindings: all.into() });
        let change = Change { key: key(aor), based_on: before.version, set, memory_only: false };
        match commit_now(service, vec![change]) {
            Ok(()) => return,
            Err(CommitFault::Conflict) => assert!(Instant::now() < deadline),
            Err(fault) => panic!("{fault}"),
        }
    }
}

#[test]
fn r_u3_all_fields_come_back_whatever_bytes_they_are() {
    let Some(server) = server() else { return };
    let expires_ms = now_ms() + 60_000;
    let plain = Binding::pack(&BindingFields {
        contact: "sip:j\u{f6}rg@192.0.2.4".as_bytes(),
        contact_params: b"+sip.instance=\"<urn:uuid:1>\";x=\"a\\\"b\"",
        path: &[b'p'; 2048],
        received: b"sip:198.51.100.7:40000",
        call_id: b"\\x41",
        user_agent: b"Caf\xe9 \0 1.0",
        instance: b"<urn:uuid:1>",
        attributes: b"site=7",
        cseq: u32::MAX,
        q_milli: Some(0),
        reg_id: u32::MAX,
        methods: Some(0x8000_0001),
        expires_ms,
        modified_ms: NOW_MS,
        transport: Transport::Wss,
        local: "[2001:db8::1]:5061".parse().unwrap(),
        conn: ConnId::NONE,
        nat: false,
    });
    let all = Arc::new(BindingSet { bindings: vec![plain, binding("sip:2", expires_ms)].into() });
    let service = open(&server, "a");
    put(&service, "j\u{f6}\\x@x", Arc::clone(&all)).unwrap();
    drop(service);
    let again = open(&server, "a");
    let read = again.get("location", "j\u{f6}\\x@x".as_bytes()).unwrap();
    assert_eq!(read, all);
    assert_eq!(
        server.sql("SELECT reg_id, methods, socket, node FROM location LIMIT 1").unwrap(),
        "4294967295|2147483649|wss:[2001:db8::1]:5061|a"
    );
}

#[test]
fn each_router_sees_the_others_bindings_and_removals() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    put(&a, "u@x", live(&["sip:1", "sip:2"])).unwrap();
    eventually("b sees a's bindings", || contacts(&b, "u@x") == ["sip:1", "sip:2"]);
    let seen = b.get("location", b"u@x").unwrap();
    let home = seen.bindings[0].home().unwrap();
    assert_eq!((&*home.node, &*home.address), ("a", ""));
    // A refresh at b is b's, the other binding stays a's.
    let mut changed = seen.bindings.to_vec();
    changed[0] = binding("sip:1", now_ms() + 7_200_000);
    put(&b, "u@x", Arc::new(BindingSet { bindings: changed.into() })).unwrap();
    let homes = |service: &LocationService| {
        let set = service.get("location", b"u@x").unwrap_or_default();
        let name = |b: &Binding| b.home().map(|home| home.node.to_string());
        set.bindings.iter().map(name).collect::<Vec<_>>()
    };
    eventually("a sees b's refresh", || homes(&a) == [Some("b".to_owned()), None]);
    put(&a, "u@x", Arc::default()).unwrap();
    eventually("b sees the removal", || contacts(&b, "u@x").is_empty());
    assert_eq!(server.sql("SELECT count(*) FROM location").unwrap(), "0");
    assert_eq!(b.counts().aors, 0);
}

#[test]
fn a_connection_counts_at_the_router_that_has_it_and_ends_with_it() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    let mut fields = binding("sip:1", now_ms() + 3_600_000);
    let mut plain = fields.fields();
    (plain.transport, plain.conn) = (Transport::Tcp, ConnId::new(3, 77));
    fields = Binding::pack(&plain);
    put(&a, "u@x", Arc::new(BindingSet { bindings: vec![fields].into() })).unwrap();
    eventually("b sees it", || contacts(&b, "u@x") == ["sip:1"]);
    let at = |service: &LocationService| {
        let set = service.get("location", b"u@x").unwrap_or_default();
        set.bindings.first().map(|b| (b.fields().conn, b.home_conn()))
    };
    assert_eq!(at(&b), Some((ConnId::NONE, ConnId::new(3, 77))));
    // b writes the AoR, a reads it back: the connection is still a's own.
    add(&b, "u@x", "sip:2");
    eventually("a sees it", || contacts(&a, "u@x") == ["sip:1", "sip:2"]);
    assert_eq!(at(&a), Some((ConnId::new(3, 77), ConnId::new(3, 77))));
    drop(a);
    let a = open(&server, "a");
    assert_eq!(at(&a), Some((ConnId::NONE, ConnId::NONE)));
}

#[test]
fn r_g1_of_two_routers_changes_to_one_aor_none_is_lost() {
    const EACH: usize = 30;
    let Some(server) = server() else { return };
    let services = [open(&server, "a"), open(&server, "b")];
    std::thread::scope(|scope| {
        for (n, service) in services.iter().enumerate() {
            scope.spawn(move || {
                for i in 0..EACH {
                    // Five AoRs for both: they meet often.
                    add(service, &format!("u{}@x", i % 5), &format!("sip:{n}-{i}"));
                }
            });
        }
    });
    for aor in 0..5 {
        let mut expected: Vec<String> = (0..2)
            .flat_map(|n| {
                (0..EACH).filter(move |i| i % 5 == aor).map(move |i| format!("sip:{n}-{i}"))
            })
            .collect();
        expected.sort();
        let aor = format!("u{aor}@x");
        for service in &services {
            eventually("both have everything", || {
                let mut found = contacts(service, &aor);
                found.sort();
                found == expected
            });
        }
    }
}

#[test]
fn a_commit_of_several_aors_is_refused_whole() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    put(&a, "u1@x", live(&["sip:1"])).unwrap();
    eventually("b sees it", || contacts(&b, "u1@x") == ["sip:1"]);
    // Changes from what b knows, after a has changed u1 again.
    let stale = change(&b, "u1@x", live(&["sip:b"]));
    let other = change(&b, "u2@x", live(&["sip:b"]));
    put(&a, "u1@x", live(&["sip:2"])).unwrap();
    let outcome = commit_now(&b, vec![stale, other]);
    assert_eq!(outcome, Err(CommitFault::Conflict));
    eventually("b knows better", || contacts(&b, "u1@x") == ["sip:2"]);
    assert!(contacts(&b, "u2@x").is_empty());
    assert_eq!(server.sql("SELECT contact FROM location").unwrap(), "sip:2");
}

#[test]
fn while_the_server_is_down_look_ups_go_on_and_changes_are_refused() {
    let Some(mut server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    put(&a, "u@x", live(&["sip:1"])).unwrap();
    eventually("b sees it", || contacts(&b, "u@x") == ["sip:1"]);
    server.kill_hard().unwrap();
    eventually("the loss is noticed", || {
        put(&a, "u@x", live(&["sip:2"])) == Err(CommitFault::Store)
    });
    assert_eq!(contacts(&a, "u@x"), ["sip:1"]);
    assert_eq!(latest_contacts(&a, "u@x"), ["sip:1"]);
    server.start_again().unwrap();
    eventually("changes are taken again", || put(&a, "u@x", live(&["sip:3"])).is_ok());
    eventually("and seen", || contacts(&b, "u@x") == ["sip:3"]);
    assert_eq!(server.sql("SELECT contact FROM location").unwrap(), "sip:3");
}

#[test]
fn changes_accepted_while_the_server_is_down_are_stored_when_it_is_back() {
    let Some(mut server) = server() else { return };
    let accepting = Config { accept_when_down: true, ..config(&server, "a") };
    let a = LocationService::open(&accepting, now_ms()).unwrap();
    let b = open(&server, "b");
    put(&a, "u1@x", live(&["sip:1"])).unwrap();
    put(&a, "u2@x", live(&["sip:1"])).unwrap();
    server.kill_hard().unwrap();
    eventually("it is noticed", || put(&a, "u1@x", live(&["sip:2"])).is_ok());
    put(&a, "u1@x", live(&["sip:2"])).unwrap();
    put(&a, "u2@x", Arc::default()).unwrap();
    put(&a, "u3@x", live(&["sip:3"])).unwrap();
    assert_eq!(contacts(&a, "u1@x"), ["sip:2"]);
    assert!(a.counts().unsaved > 0);
    server.start_again().unwrap();
    eventually("all is stored", || a.counts().unsaved == 0);
    eventually("b sees it", || {
        contacts(&b, "u1@x") == ["sip:2"]
            && contacts(&b, "u2@x").is_empty()
            && contacts(&b, "u3@x") == ["sip:3"]
    });
    let rows = server.sql("SELECT aor, contact FROM location ORDER BY aor").unwrap();
    assert_eq!(rows, "u1@x|sip:2\nu3@x|sip:3");
}

#[test]
fn r_u2_write_back_acknowledges_at_once_and_stores_later() {
    let Some(server) = server() else { return };
    let backend = Backend::Postgres(Box::new(postgres(&server, "a")));
    let mode = |interval| Mode::WriteBack(backend.clone(), Duration::from_millis(interval));
    let lazy = Config { mode: mode(3_600_000), ..Config::default() };
    let a = LocationService::open(&lazy, now_ms()).unwrap();
    let outcome = commit(&a, vec![change(&a, "u1@x", live(&["sip:1"]))]);
    assert_eq!(outcome.try_recv(), Ok(Ok(())), "not at once");
    put(&a, "u1@x", live(&["sip:2"])).unwrap();
    assert_eq!((a.counts().unsaved, contacts(&a, "u1@x")), (1, vec!["sip:2".to_owned()]));
    assert_eq!(server.sql("SELECT count(*) FROM location").unwrap(), "0");
    a.close();
    assert_eq!(server.sql("SELECT contact FROM location").unwrap(), "sip:2");
    let busy = Config { mode: mode(50), ..Config::default() };
    let (a, b) = (LocationService::open(&busy, now_ms()).unwrap(), open(&server, "b"));
    put(&a, "u2@x", live(&["sip:1"])).unwrap();
    eventually("it is stored by itself", || contacts(&b, "u2@x") == ["sip:1"]);
    assert_eq!(contacts(&b, "u1@x"), ["sip:2"]);
}

#[test]
fn what_two_routers_acknowledged_before_storing_it_is_merged() {
    let Some(server) = server() else { return };
    let open_lazy = |node: &str, interval| {
        let backend = Backend::Postgres(Box::new(postgres(&server, node)));
        let mode = Mode::WriteBack(backend, Duration::from_millis(interval));
        LocationService::open(&Config { mode, ..Config::default() }, now_ms()).unwrap()
    };
    let (a, b) = (open_lazy("a", 3_600_000), open_lazy("b", 20));
    put(&a, "u@x", live(&["sip:a"])).unwrap();
    put(&b, "u@x", live(&["sip:b"])).unwrap();
    eventually("a has both", || contacts(&a, "u@x") == ["sip:b", "sip:a"]);
    a.close();
    eventually("b has both", || contacts(&b, "u@x") == ["sip:b", "sip:a"]);
}

#[test]
fn what_was_missed_while_cut_off_is_caught_up() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    put(&a, "u@x", live(&["sip:1"])).unwrap();
    eventually("b sees it", || contacts(&b, "u@x") == ["sip:1"]);
    // b loses all its connections, again and again, while a goes on.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'viaduct b'";
    for n in 0..40 {
        server.sql(cut).unwrap();
        put(&a, &format!("u{n}@x"), live(&["sip:1"])).unwrap();
        if n % 2 == 0 {
            put(&a, &format!("u{n}@x"), Arc::default()).unwrap();
        }
    }
    put(&a, "last@x", live(&["sip:1"])).unwrap();
    eventually("b has seen the last", || contacts(&b, "last@x") == ["sip:1"]);
    for n in 0..40 {
        let expected: &[&str] = if n % 2 == 0 { &[] } else { &["sip:1"] };
        assert_eq!(contacts(&b, &format!("u{n}@x")), expected, "{n}");
    }
}

/// A record may come back with the number of the one that is known, and be another.
#[test]
fn after_numbers_have_gone_back_everything_is_read_again() {
    for number_of_u1 in ["1", "(SELECT seq FROM location_aor WHERE aor = 'u1@x')"] {
        read_again_from_a_backup(number_of_u1);
    }
}

fn read_again_from_a_backup(number_of_u1: &str) {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    for aor in ["u1@x", "u2@x"] {
        put(&a, aor, live(&["sip:1"])).unwrap();
        eventually("b sees it", || contacts(&b, aor) == ["sip:1"]);
    }
    // What a restored backup looks like: older rows, older numbers, and a record less.
    server
        .sql(&format!(
            "BEGIN; DELETE FROM location_aor WHERE aor = 'u2@x'; \
             DELETE FROM location WHERE aor = 'u2@x'; \
             UPDATE location_aor SET seq = {number_of_u1}; \
             UPDATE location_clock SET seq = (SELECT seq FROM location_aor); \
             UPDATE location SET contact = 'sip:old' WHERE aor = 'u1@x'; COMMIT"
        ))
        .unwrap();
    for service in [&a, &b] {
        eventually("the database counts", || {
            contacts(service, "u1@x") == ["sip:old"] && contacts(service, "u2@x").is_empty()
        });
    }
    put(&b, "u1@x", live(&["sip:new"])).unwrap();
    eventually("changes travel again", || contacts(&a, "u1@x") == ["sip:new"]);
}

#[test]
fn numbers_that_have_gone_back_are_noticed_by_all_though_one_has_moved_them_on() {
    let Some(server) = server() else { return };
    // One reads everything again whenever it connects, the other looks rarely.
    let open = |node, keep_removed, poll_interval| {
        let postgres = PostgresConfig { keep_removed, poll_interval, ..postgres(&server, node) };
        let mode = Mode::WriteThrough(Backend::Postgres(Box::new(postgres)));
        LocationService::open(&Config { mode, ..Config::default() }, now_ms()).unwrap()
    };
    let a = open("a", Duration::ZERO, Duration::from_millis(100));
    let b = open("b", Duration::from_secs(3600), Duration::from_secs(2));
    put(&a, "u@x", live(&["sip:1"])).unwrap();
    eventually("b sees it", || contacts(&b, "u@x") == ["sip:1"]);
    server
        .sql(
            "BEGIN; UPDATE location_clock SET seq = 0; UPDATE location_aor SET seq = 0; \
             UPDATE location SET contact = 'sip:old'; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'viaduct a'; COMMIT",
        )
        .unwrap();
    for service in [&a, &b] {
        eventually("the database counts", || contacts(service, "u@x") == ["sip:old"]);
    }
}

#[test]
fn who_was_away_for_longer_than_the_log_reaches_reads_everything_again() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    put(&a, "u@x", live(&["sip:1"])).unwrap();
    eventually("b sees it", || contacts(&b, "u@x") == ["sip:1"]);
    // A change whose log has been deleted already.
    server
        .sql(
            "BEGIN; UPDATE location_clock SET seq = seq + 1, log_from = seq + 1; \
             UPDATE location_aor SET seq = (SELECT seq FROM location_clock), written_by = 1; \
             UPDATE location SET contact = 'sip:2'; DELETE FROM location_log; COMMIT",
        )
        .unwrap();
    eventually("b has read it", || contacts(&b, "u@x") == ["sip:2"]);
    put(&b, "u@x", live(&["sip:3"])).unwrap();
    eventually("changes travel again", || contacts(&a, "u@x") == ["sip:3"]);
}

#[test]
fn old_tombstones_and_what_is_left_of_the_log_are_deleted() {
    let Some(server) = server() else { return };
    let a = open(&server, "a");
    for aor in ["u@x", "kept@x"] {
        put(&a, aor, live(&["sip:1"])).unwrap();
    }
    put(&a, "u@x", Arc::default()).unwrap();
    // As if that had been long ago.
    let is = |text: &str| server.sql(text).unwrap();
    let cut_at = is("WITH aged AS (UPDATE location_aor SET expires_ms = 1 WHERE bindings = 0), \
         ticked AS (UPDATE location_clock SET seq = seq + 1 RETURNING seq - 1 AS seq), \
         logged AS (INSERT INTO location_log SELECT seq, 1, 1, '{location}', '{u@x}' FROM ticked) \
         SELECT seq FROM ticked");
    let b = open(&server, "b");
    eventually("the tombstone is gone", || is("SELECT count(*) FROM location_aor") == "1");
    let old = "SELECT count(*) FROM location_log WHERE at_ms = 1";
    eventually("the log is cut", || is(old) == "0");
    assert_eq!(is("SELECT log_from FROM location_clock"), cut_at);
    assert_eq!(contacts(&b, "kept@x"), ["sip:1"]);
}

/// A router that looks by itself, and says that it lives, once in an hour.
fn drowsy(server: &Postgres, node: &str) -> LocationService {
    let hour = Duration::from_secs(3600);
    let postgres =
        PostgresConfig { poll_interval: hour, node_dead: 5 * hour, ..postgres(server, node) };
    let mode = Mode::WriteThrough(Backend::Postgres(Box::new(postgres)));
    LocationService::open(&Config { mode, ..Config::default() }, now_ms()).unwrap()
}

#[test]
fn who_was_alone_hears_of_a_second_router_and_tells_it_of_changes() {
    let Some(server) = server() else { return };
    let a = drowsy(&server, "a");
    eventually("a knows that it is alone", || a.counts().nodes == 1);
    put(&a, "u@x", live(&["sip:1"])).unwrap();
    let b = drowsy(&server, "b");
    eventually("both know", || a.counts().nodes == 2 && b.counts().nodes == 2);
    add(&a, "u@x", "sip:2");
    eventually("b is told", || contacts(&b, "u@x") == ["sip:1", "sip:2"]);
    add(&b, "u@x", "sip:3");
    eventually("a is told", || contacts(&a, "u@x") == ["sip:1", "sip:2", "sip:3"]);
}

#[test]
fn a_router_alone_does_not_tell_itself_of_its_own_changes() {
    let Some(server) = server() else { return };
    let heard = listen(&server);
    let a = drowsy(&server, "a");
    eventually("a knows that it is alone", || a.counts().nodes == 1);
    let mark = |text: &str| server.sql(&format!("NOTIFY viaduct_location, '{text}'")).unwrap();
    mark("before");
    while heard.recv().unwrap() != "before" {} // that a has come
    put(&a, "u@x", live(&["sip:1"])).unwrap();
    mark("after");
    assert_eq!(heard.recv().unwrap(), "after");
    let _b = drowsy(&server, "b");
    eventually("a knows b", || a.counts().nodes == 2);
    mark("two");
    while heard.recv().unwrap() != "two" {}
    put(&a, "u@x", live(&["sip:2"])).unwrap();
    mark("after");
    assert_eq!(heard.recv().unwrap(), "");
}

/// The server itself waits for the moment: seen from here it would be over.
#[test]
fn who_was_alone_hears_of_a_second_router_while_it_gathers_what_it_was_told() {
    let Some(server) = server() else { return };
    let a = drowsy(&server, "a");
    eventually("a knows that it is alone", || a.counts().nodes == 1);
    let note_when_a_was_seen =
        "SELECT set_config('test.seen', (SELECT seen::text FROM location_node), false)";
    let come_once_it_is_seen_again = "DO $$ DECLARE \
             seen_before timestamptz := current_setting('test.seen'); \
         BEGIN \
             FOR _ IN 1..200 LOOP \
                 PERFORM pg_sleep(0.0005); \
                 IF (SELECT seen FROM location_node) > seen_before THEN \
                     PERFORM pg_sleep(0.003); \
                     INSERT INTO location_node (node, boot, seen) VALUES ('b', 1, now()); \
                     NOTIFY viaduct_location; \
                     EXIT; \
                 END IF; \
             END LOOP; \
         END $$";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&server.connection(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let deadline = Instant::now() + SOON;
        // What a is told while it gathers what it told itself is not answered on its own.
        while client.query("SELECT FROM location_node", &[]).await.unwrap().len() == 1 {
            assert!(Instant::now() < deadline, "a never asks who lives");
            for statement in
                [note_when_a_was_seen, "NOTIFY viaduct_location", come_once_it_is_seen_again]
            {
                client.batch_execute(statement).await.unwrap();
            }
        }
    });
    eventually("a knows b", || a.counts().nodes == 2);
}

/// What routers tell each other, in the order of the commits.
fn listen(server: &Postgres) -> std::sync::mpsc::Receiver<String> {
    let (tell, heard) = std::sync::mpsc::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let connection = server.connection();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (client, mut connection) =
                tokio_postgres::connect(&connection, tokio_postgres::NoTls).await.unwrap();
            let notes = tokio::spawn(async move {
                while let Some(message) = poll_fn(|context| connection.poll_message(context)).await
                {
                    if let Ok(AsyncMessage::Notification(note)) = message
                        && tell.send(note.payload().to_owned()).is_err()
                    {
                        return;
                    }
                }
            });
            client.batch_execute("LISTEN viaduct_location").await.unwrap();
            ready.send(()).unwrap();
            notes.await.unwrap();
        });
    });
    is_ready.recv().unwrap();
    heard
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date_with_what_is_in_it() {
    let Some(server) = server() else { return };
    put(&open(&server, "a"), "u@x", live(&["sip:1"])).unwrap();
    server
        .sql(
            "DROP VIEW location_now; \
             ALTER TABLE location ADD cseq bigint NOT NULL DEFAULT 7, \
             ADD expires_ms bigint NOT NULL DEFAULT 4102444800000, \
             ADD modified_ms bigint NOT NULL DEFAULT 1900000000000; \
             ALTER TABLE location_aor DROP COLUMN refreshed; \
             CREATE VIEW location_now AS SELECT 1; \
             DROP TABLE location_node; DROP TABLE location_log; \
             ALTER TABLE location_clock DROP COLUMN log_from; \
             ALTER TABLE location_aor RENAME COLUMN written_by TO writer; \
             CREATE INDEX location_aor_seq ON location_aor (seq); \
             ALTER TABLE location DROP COLUMN attributes; DELETE FROM viaduct_migration WHERE version > 1",
        )
        .unwrap();
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    assert_eq!(contacts(&a, "u@x"), ["sip:1"]);
    let read = a.get("location", b"u@x").unwrap();
    let fields = read.bindings[0].fields();
    assert_eq!(
        (fields.cseq, fields.expires_ms, fields.modified_ms),
        (7, 4_102_444_800_000, 1_900_000_000_000)
    );
    let shown = "SELECT contact, extract(epoch FROM expires)::int8 FROM location_now";
    assert_eq!(server.sql(shown).unwrap(), "sip:1|4102444800");
    add(&a, "u@x", "sip:2");
    eventually("b sees it", || contacts(&b, "u@x") == ["sip:1", "sip:2"]);
}

#[test]
fn an_aor_whose_bindings_have_expired_is_as_good_as_none() {
    let Some(server) = server() else { return };
    let (a, b) = (open(&server, "a"), open(&server, "b"));
    let past_ms = now_ms() - 2000;
    put(&a, "u@x", set(&[("sip:1", past_ms), ("sip:2", past_ms)])).unwrap();
    eventually("b has it too", || contacts(&b, "u@x").len() == 2);
    assert_eq!(b.expire(now_ms(), 10).len(), 1);
    assert_eq!(b.counts().aors, 0);
    put(&b, "u@x", live(&["sip:3"])).unwrap();
    eventually("a sees it", || contacts(&a, "u@x") == ["sip:3"]);
    assert_eq!(server.sql("SELECT contact FROM location").unwrap(), "sip:3");
}

#[test]
fn databases_that_cannot_be_used_are_told() {
    let Some(server) = server() else { return };
    let at = |change: &dyn Fn(&mut PostgresConfig)| {
        let mut postgres = postgres(&server, "a");
        change(&mut postgres);
        let mode = Mode::WriteThrough(Backend::Postgres(Box::new(postgres)));
        refusal(&Config { mode, ..Config::default() })
    };
    let fault = at(&|c| c.connection = c.connection.replace("dbname=viaduct", "dbname=none"));
    assert!(fault.contains("\"none\" does not exist"), "{fault}");
    let fault = at(&|c| c.connection = "host=/nowhere user=viaduct dbname=viaduct".into());
    assert!(fault.contains("PostgreSQL at /nowhere/viaduct:"), "{fault}");
    let fault = at(&|c| c.password_file = Some("/nowhere/password".into()));
    assert!(fault.contains("password_file /nowhere/password"), "{fault}");
    server.sql("CREATE DATABASE narrow ENCODING 'SQL_ASCII' TEMPLATE template0").unwrap();
    let fault = at(&|c| c.connection = c.connection.replace("dbname=viaduct", "dbname=narrow"));
    assert!(fault.contains("encoding SQL_ASCII; it must have UTF8"), "{fault}");
    drop(open(&server, "a"));
    server.sql("INSERT INTO viaduct_migration (version) VALUES (99)").unwrap();
    let fault = at(&|_| ());
    assert!(fault.contains("version 99, this router knows version"), "{fault}");
}

#[test]
fn a_row_that_cannot_be_read_is_left_out_and_the_others_are_not() {
    let Some(server) = server() else { return };
    put(&open(&server, "a"), "u@x", live(&["sip:1", "sip:2"])).unwrap();
    server.sql("UPDATE location SET socket = 'here' WHERE contact = 'sip:1'").unwrap();
    assert_eq!(contacts(&open(&server, "a"), "u@x"), ["sip:2"]);
}
