//! One connection, and the one that changes are written by.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::{TryStreamExt as _, pin_mut};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, GenericClient, Statement};

use super::config::PostgresConfig;
use super::fault::Fault;
use super::rows::{Columns, Reader, Records};
use super::{random, schema, statements, tls, unix_ms};
use crate::store::{Record, Write, Written};

/// Notifications that wait; more are as good as one.
const MOST_NOTES: usize = 16;
/// A record that expires so soon does not refuse a change that does not know it: clocks differ.
const CLOCK_TOLERANCE_MS: u64 = 2000;
/// Plans with an index for every single row, whatever the planner thinks of the tables' size. What
/// is off only costs very much, which must not seem worth compiling.
const PLANS: &str = "SET jit = off; SET enable_seqscan = off; SET enable_mergejoin = off; \
                     SET enable_hashjoin = off; SET plan_cache_mode = force_generic_plan";

/// A connection, prepared: what its server says comes in by itself.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// Process that sent a notification; closed when the connection is.
    pub(super) notes: Receiver<i32>,
    pub(super) driver: Driver,
}

/// What reads and writes a connection's socket: ends, and closes it, with the value, whatever the
/// server still has to say.
pub(crate) struct Driver(tokio::task::AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to the host that takes writes.
pub(crate) async fn connect(config: &PostgresConfig) -> Result<Link, Fault> {
    let parsed = config.with_password().map_err(Fault::lasting)?;
    let connector =
        tls::connector(config.tls, config.ca_file.as_deref()).map_err(Fault::lasting)?;
    let connected = timeout(config.connect_timeout, parsed.connect(connector)).await;
    let late = || Fault::passing(format!("no connection within {:?}", config.connect_timeout));
    let (client, mut connection) = connected.map_err(|_| late())??;
    let (tell, notes): (Sender<i32>, _) = channel(MOST_NOTES);
    let task = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notification(note)) => {
                    // Full: somebody looks soon anyway.
                    let _ = tell.try_send(note.process_id());
                }
                Ok(_) => {}
                // The statement under way, or the next, says so.
                Err(_) => return,
            }
        }
    });
    Ok(Link { client, notes, driver: Driver(task.abort_handle()) })
}

/// The connection changes are written by.
pub(super) struct Session {
    client: Client,
    driver: Driver,
    tick: Statement,
    write: Statement,
    refresh: Statement,
    current: Statement,
    /// Marks the rows this connection has written.
    pub(super) writer: i64,
    /// The server's process, which sends this connection's notifications.
    pub(super) pid: i32,
    /// Everything it has written up to here is known to the store thread.
    pub(super) known: AtomicU64,
}

impl Session {
    /// Ends the connection, and with it what is under way.
    pub(super) fn close(&self) {
        self.driver.0.abort();
    }

    /// Connects, brings the tables up to date, prepares the statements. The receiver tells when the
    /// connection ends.
    pub(super) async fn open(
        config: &PostgresConfig,
    ) -> Result<(Arc<Session>, Receiver<i32>), Fault> {
        let Link { mut client, notes, driver } = connect(config).await?;
        schema::migrate(&mut client).await?;
        let session = Session::prepare(client, driver, config).await?;
        Ok((Arc::new(session), notes))
    }

    async fn prepare(
        client: Client,
        driver: Driver,
        config: &PostgresConfig,
    ) -> Result<Session, tokio_postgres::Error> {
        // A router that is cut off must not hold the clock's lock for the others. What the set is
        // given as is a number of our own.
        let limit_ms = config.write_timeout.as_millis();
        let limits = format!(
            "{PLANS}; SET statement_timeout = {limit_ms}; \
             SET idle_in_transaction_session_timeout = {limit_ms}"
        );
        client.batch_execute(&limits).await?;
        let tick = client.prepare(statements::TICK).await?;
        let write = client.prepare(&statements::write()).await?;
        let refresh = client.prepare(&statements::refresh()).await?;
        let current = client.prepare(&statements::current()).await?;
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
        let clock = Clock::read(&client).await?;
        Ok(Session {
            client,
            driver,
            tick,
            write,
            refresh,
            current,
            writer: random(),
            pid,
            known: AtomicU64::new(clock.revision),
        })
    }

    /// Writes a group in one transaction and one round trip, and tells the other routers unless this
    /// one `is_alone`. Calls `decided` when nothing but the disk is waited for.
    pub(super) async fn write(
        &self,
        group: &[Write],
        reader: &Reader,
        is_alone: bool,
        decided: impl FnOnce(),
    ) -> Result<Written, tokio_postgres::Error> {
        let now_ms = unix_ms();
        let (columns, parts) = Columns::new(group, reader.me(), now_ms.cast_signed());
        let soon = now_ms.saturating_add(CLOCK_TOLERANCE_MS).cast_signed();
        let parameters = columns.parameters(&self.writer, &soon);
        let write = if columns.are_refreshes() { &self.refresh } else { &self.write };
        let commit = statements::commit(is_alone);
        let writing = async {
            let row = self.client.query_one(write, &parameters).await?;
            decided();
            Ok(row)
        };
        // Sent one behind the other without waiting: the server works them off in order.
        let (begun, ticked, written, committed) = futures_util::join!(
            self.client.batch_execute("BEGIN"),
            self.client.execute(&self.tick, &[]),
            writing,
            self.client.batch_execute(&commit),
        );
        begun?;
        ticked?;
        let row = written?;
        committed?;
        let revision = row.try_get::<_, i64>(0)?.cast_unsigned();
        let refused: Vec<i32> = row.try_get(1)?;
        let mut outcome = Written { revision, ..Written::default() };
        if !refused.is_empty() {
            let is_refused = |part: &u32| refused.iter().any(|r| r.cast_unsigned() == *part);
            let both = || group.iter().zip(&parts);
            outcome.refused =
                both().filter(|(_, part)| is_refused(part)).map(|(write, _)| write.part).collect();
            let stale: Vec<&Write> =
                both().filter(|(_, part)| is_refused(part)).map(|(write, _)| write).collect();
            outcome.current = self.current(&stale, reader, revision).await?;
        }
        Ok(outcome)
    }

    /// What there is of the AoRs of some writes, now.
    async fn current(
        &self,
        writes: &[&Write],
        reader: &Reader,
        revision: u64,
    ) -> Result<Vec<Record>, tokio_postgres::Error> {
        let tables: Vec<&str> = writes.iter().map(|write| &*write.key.table).collect();
        let aors: Vec<_> =
            writes.iter().map(|write| super::text::to_column(&write.key.aor)).collect();
        let mut found = Vec::new();
        let mut records = Records::new(reader);
        for row in self.client.query(&self.current, &[&tables, &aors]).await? {
            found.extend(records.row(&row)?);
        }
        found.extend(records.take());
        for write in writes {
            // Deleted long after its removal: no row, no number of its own.
            if !found.iter().any(|record| record.key == write.key) {
                let (key, set) = (write.key.clone(), Default::default());
                found.push(Record { key, set, revision, exact: true });
            }
        }
        Ok(found)
    }
}

/// Where the numbering is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// Number of the last change.
    pub(super) revision: u64,
    /// Numbers of another era mean nothing.
    pub(super) era: i64,
    /// The log has all changes after this one.
    pub(super) log_from: u64,
}

impl Clock {
    pub(super) async fn read(client: &impl GenericClient) -> Result<Clock, tokio_postgres::Error> {
        let row = client.query_one(statements::CLOCK, &[]).await?;
        let revision = row.try_get::<_, i64>(0)?.cast_unsigned();
        let log_from = row.try_get::<_, i64>(2)?.cast_unsigned();
        Ok(Clock { revision, era: row.try_get(1)?, log_from })
    }
}

/// Calls `begins` with where the numbering is, then `each` with every record there was then.
pub(super) async fn read_all(
    client: &mut Client,
    reader: &Reader,
    begins: &mut (dyn FnMut(Clock) + Send),
    each: &mut (dyn FnMut(Record) + Send),
) -> Result<Clock, tokio_postgres::Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let clock = Clock::read(&transaction).await?;
    begins(clock);
    let rows = transaction.query_raw(statements::all().as_str(), std::iter::empty::<i64>()).await?;
    pin_mut!(rows);
    let mut records = Records::new(reader);
    while let Some(row) = rows.try_next().await? {
        if let Some(record) = records.row(&row)? {
            each(record);
        }
    }
    if let Some(record) = records.take() {
        each(record);
    }
    transaction.commit().await?;
    Ok(clock)
}
