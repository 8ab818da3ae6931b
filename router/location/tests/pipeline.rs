//! Groups that follow each other without a gap, in a store that can.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers fail by panic

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use common::database::{SOON, eventually, live, open, server};
use common::*;
use viaduct_engine::CommitFault;
use viaduct_location::{Config, LocationService, Write};
use viaduct_tests::support::postgres::Postgres;

fn service(config: &Config) -> (LocationService, Gate) {
    let (store, gate) = gated_pipeline();
    (LocationService::open_with(config, Box::new(store), NOW_MS).unwrap(), gate)
}

fn register(service: &LocationService, aor: &str) -> Receiver<Outcome> {
    commit(service, vec![change(service, aor, hour("sip:1"))])
}

fn names(writes: &[Write]) -> Vec<String> {
    writes.iter().map(|w| String::from_utf8_lossy(&w.key.aor).into_owned()).collect()
}

#[test]
fn what_is_queued_follows_while_the_group_before_waits_for_the_disk() {
    let (service, gate) = service(&Config::default());
    let first = register(&service, "a@x");
    assert_eq!(names(&gate.entered.recv().unwrap()), ["a@x"]);
    let second = register(&service, "b@x");
    assert!(gate.entered.try_recv().is_err(), "not before the first is decided");
    gate.decide(true);
    assert_eq!(names(&gate.entered.recv().unwrap()), ["b@x"]);
    assert!(first.try_recv().is_err(), "decided is not stored");
    assert!(contacts(&service, "a@x").is_empty());
    gate.answers.send(Answer::Stored).unwrap();
    assert_eq!(first.recv(), Ok(Ok(())));
    gate.decide(true);
    assert!(second.try_recv().is_err());
    gate.answers.send(Answer::Stored).unwrap();
    assert_eq!(second.recv(), Ok(Ok(())));
}

#[test]
fn what_builds_on_a_change_under_way_waits_for_it_and_so_does_all_behind_it() {
    let (service, gate) = service(&Config::default());
    let first = register(&service, "a@x");
    gate.entered.recv().unwrap();
    let other = register(&service, "b@x");
    let again = register(&service, "a@x");
    let last = register(&service, "c@x");
    gate.decide(true);
    assert_eq!(names(&gate.entered.recv().unwrap()), ["b@x"]);
    gate.answers.send(Answer::Stored).unwrap();
    assert_eq!(first.recv(), Ok(Ok(())));
    gate.decide(true);
    assert_eq!(names(&gate.entered.recv().unwrap()), ["a@x", "c@x"]);
    drop(gate);
    assert_eq!((other.recv(), again.recv(), last.recv()), (Ok(Ok(())), Ok(Ok(())), Ok(Ok(()))));
}

#[test]
fn a_group_that_fails_leaves_what_follows_it_to_its_own_fate() {
    for fate in [Answer::Stored, Answer::Failed, Answer::Panic] {
        let (service, gate) = service(&Config::default());
        let first = register(&service, "a@x");
        gate.entered.recv().unwrap();
        let second = register(&service, "b@x");
        gate.decide(true);
        gate.answers.send(Answer::Failed).unwrap();
        assert_eq!(first.recv(), Ok(Err(CommitFault::Store)));
        gate.decide(true);
        gate.answers.send(fate).unwrap();
        let is_stored = fate == Answer::Stored;
        let expected = if is_stored { Ok(()) } else { Err(CommitFault::Store) };
        assert_eq!(second.recv(), Ok(expected));
        assert!(contacts(&service, "a@x").is_empty());
        assert_eq!(contacts(&service, "b@x").is_empty(), !is_stored);
    }
}

#[test]
fn a_group_that_fails_before_it_is_decided_is_followed_by_nothing() {
    let (service, gate) = service(&Config::default());
    let first = register(&service, "a@x");
    gate.entered.recv().unwrap();
    let second = register(&service, "b@x");
    gate.decide(false);
    assert!(gate.entered.try_recv().is_err());
    gate.answers.send(Answer::Failed).unwrap();
    assert_eq!(first.recv(), Ok(Err(CommitFault::Store)));
    assert_eq!(names(&gate.entered.recv().unwrap()), ["b@x"]);
    drop(gate);
    assert_eq!(second.recv(), Ok(Ok(())));
}

#[test]
fn the_end_waits_for_groups_under_way_and_stores_what_is_queued() {
    let (service, gate) = service(&Config::default());
    let first = register(&service, "a@x");
    gate.entered.recv().unwrap();
    let rest: Vec<_> = (0..20).map(|n| register(&service, &format!("b{n}@x"))).collect();
    gate.decide(true);
    drop(gate);
    service.close();
    assert_eq!(first.try_recv(), Ok(Ok(())));
    rest.iter().for_each(|outcome| assert_eq!(outcome.try_recv(), Ok(Ok(()))));
}

#[test]
fn groups_without_end_do_not_keep_what_was_acknowledged_early_from_the_store() {
    let config = Config { accept_when_down: true, ..Config::default() };
    let (service, gate) = service(&config);
    let early = register(&service, "early@x");
    gate.entered.recv().unwrap();
    gate.decide(false);
    gate.answers.send(Answer::Failed).unwrap();
    assert_eq!(early.recv(), Ok(Ok(())));
    let _outcome = register(&service, "0@x");
    let deadline = Instant::now() + SOON;
    for n in 1.. {
        let writes = gate.entered.recv().unwrap();
        if names(&writes) == ["early@x"] {
            return;
        }
        assert!(Instant::now() < deadline, "after {n} groups");
        // There is always something to follow.
        let _outcome = commit(&service, vec![change(&service, &format!("{n}@x"), hour("sip:1"))]);
        gate.decisions.send(true).unwrap();
        gate.answers.send(Answer::Stored).unwrap();
    }
}

/// A lock of the database, held until it is let go.
struct Held {
    release: Sender<()>,
    thread: JoinHandle<()>,
}

impl Held {
    fn take(server: &Postgres, lock: &str) -> Held {
        let (release, released) = channel();
        let (ready, is_ready) = channel();
        let (connection, take) = (server.connection(), format!("BEGIN; SELECT {lock}"));
        let work = async move {
            let (client, connection) =
                tokio_postgres::connect(&connection, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(&take).await.unwrap();
            ready.send(()).unwrap();
            tokio::task::spawn_blocking(move || released.recv()).await.unwrap().unwrap();
            client.batch_execute("ROLLBACK").await.unwrap();
        };
        let thread = std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().unwrap().block_on(work);
        });
        is_ready.recv().unwrap();
        Held { release, thread }
    }

    fn let_go(self) {
        self.release.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

/// The process whose statement ends like this and that waits for a lock.
fn waiting(server: &Postgres, statement: &str) -> String {
    let query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE";
    server.sql(&format!("{query} '%{statement}'")).unwrap()
}

#[test]
fn what_is_under_way_when_the_connection_breaks_is_refused_and_can_be_tried_again() {
    let Some(server) = server() else { return };
    let service = open(&server, "a");
    put(&service, "a@x", live(&["sip:a"])).unwrap();
    // A commit waits for a lock of ours, with everything else done.
    server
        .sql(
            "CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'; \
             CREATE CONSTRAINT TRIGGER stall AFTER INSERT ON location_log DEFERRABLE \
             INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stall()",
        )
        .unwrap();
    let commits = Held::take(&server, "pg_advisory_xact_lock(7)");
    let clock = Held::take(&server, "seq FROM location_clock FOR UPDATE");
    let change = |aor, contact| commit(&service, vec![change(&service, aor, live(&[contact]))]);
    let first = change("a@x", "sip:a2");
    eventually("it has begun", || !waiting(&server, "SET seq = seq + 1").is_empty());
    let (again, behind) = (change("b@x", "sip:b"), change("a@x", "sip:a3"));
    clock.let_go();
    eventually("it commits, and b has been sent", || !waiting(&server, "COMMIT").is_empty());
    let pid = waiting(&server, "COMMIT");
    server.sql(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    assert_eq!(first.recv(), Ok(Err(CommitFault::Store)));
    assert_eq!(again.recv(), Ok(Err(CommitFault::Store)));
    assert_eq!(behind.recv(), Ok(Err(CommitFault::Conflict)));
    commits.let_go();
    assert_eq!(contacts(&service, "a@x"), ["sip:a"]);
    assert!(contacts(&service, "b@x").is_empty());
    eventually("there is a connection", || put(&service, "b@x", live(&["sip:b2"])).is_ok());
    put(&service, "a@x", live(&["sip:a4"])).unwrap();
    let rows = server.sql("SELECT aor, contact FROM location ORDER BY aor").unwrap();
    assert_eq!(rows, "a@x|sip:a4\nb@x|sip:b2");
}
