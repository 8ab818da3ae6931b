//! What the other routers change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt as _, pin_mut};
use tokio_postgres::{Client, Statement};

use super::config::describe;
use super::rows::Records;
use super::session::{Clock, Link, connect, read_all};
use super::{Pause, Shared, statements, unix_ms};
use crate::nodes::MOST_NODES;
use crate::store::{AsOf, Watcher};

/// After a notification: more often come together.
const GATHER: Duration = Duration::from_millis(10);
/// How often what has expired is deleted.
const CLEAN_INTERVAL: Duration = Duration::from_secs(60);
/// How long it is logged what has changed. Who was away for longer reads everything again.
const LOG_KEPT: Duration = Duration::from_secs(600);
/// Of the time after which a router is dead: how often it says that it lives.
const BEATS: u32 = 5;
/// One plan for each question: how much is new differs.
const PLANS: &str = "SET jit = off; SET plan_cache_mode = force_custom_plan; \
                     SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                     SET idle_in_transaction_session_timeout = '10s'";
/// No era is this one.
const UNKNOWN_ERA: i64 = i64::MIN;

/// Where the feed is.
struct Feed {
    shared: Arc<Shared>,
    watcher: Arc<dyn Watcher>,
    /// Everything up to this number has been told.
    told: u64,
    /// When that was.
    at: Instant,
    era: i64,
}

/// Tells the watcher of changes after what is `loaded` for as long as the runtime lives.
pub(super) async fn run(shared: Arc<Shared>, watcher: Arc<dyn Watcher>, loaded: Option<Clock>) {
    // Where nothing is loaded everything is listed.
    let (told, era) = loaded.map_or((0, UNKNOWN_ERA), |clock| (clock.revision, clock.era));
    let mut feed = Feed { shared, watcher, told, at: Instant::now(), era };
    let (mut pause, mut last) = (Pause::default(), String::new());
    loop {
        let begun = feed.at;
        let fault = feed.follow().await;
        if feed.at != begun {
            (pause, last) = (Pause::default(), String::new());
        }
        // The same each second would fill the log.
        if fault != last {
            tracing::warn!(%fault, "database: changes of other routers are not seen");
            last = fault;
        }
        pause.wait().await;
    }
}

impl Feed {
    /// Follows the changes by one connection until that ends; why it did.
    async fn follow(&mut self) -> String {
        match connect(&self.shared.config).await {
            Ok(link) => match self.follow_by(link).await {
                Ok(never) => match never {},
                Err(fault) => describe(&fault),
            },
            Err(fault) => fault.text,
        }
    }

    async fn follow_by(
        &mut self,
        link: Link,
    ) -> Result<std::convert::Infallible, tokio_postgres::Error> {
        let Link { mut client, mut notes, driver: _driver } = link;
        client.batch_execute(&format!("{PLANS}; LISTEN viaduct_location")).await?;
        let changes = client.prepare(&statements::changes()).await?;
        self.recognise(&mut client).await?;
        let mut cleaned: Option<Instant> = None;
        let mut beaten: Option<Instant> = None;
        loop {
            if beaten.is_none_or(|at| at.elapsed() >= self.shared.config.node_dead / BEATS) {
                self.beat(&client).await?;
                if beaten.is_none() {
                    // Who was alone does not tell of changes until it knows that we are here.
                    client.batch_execute(statements::NOTIFY).await?;
                }
                beaten = Some(Instant::now());
            }
            if !self.look(&client, &changes).await? {
                self.list(&mut client).await?;
            }
            if cleaned.is_none_or(|at| at.elapsed() > CLEAN_INTERVAL) {
                cleaned = Some(Instant::now());
                self.clean(&mut client).await?;
            }
            let config = &self.shared.config;
            // Who looks seldom must not be taken for dead.
            let longest = config.poll_interval.min(config.node_dead / BEATS);
            let waited = tokio::time::timeout(longest, async {
                // What this router has written itself is no news.
                loop {
                    match notes.recv().await {
                        Some(pid) if pid == self.shared.own_marks().1 => {}
                        other => return other,
                    }
                }
            });
            if let Ok(Some(_)) = waited.await {
                tokio::time::sleep(GATHER).await;
                while notes.try_recv().is_ok() {}
                if self.shared.nodes.is_alone() {
                    // Perhaps not any more: who comes says so, perhaps in one of these.
                    self.beat(&client).await?;
                }
            }
        }
    }

    /// Says that this router lives, and hears who else does.
    async fn beat(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let (me, dead) = (self.shared.reader.me(), self.shared.config.node_dead);
        client.execute(statements::BEAT, &[&me.node, &me.boot]).await?;
        let most = i64::try_from(MOST_NODES).unwrap_or(i64::MAX);
        let dead_ms = dead.as_secs_f64() * 1000.0;
        let rows = client.query(statements::LIVING, &[&dead_ms, &most]).await?;
        let names = rows.iter().map(|row| row.try_get::<_, &str>(0).map(Box::from));
        self.shared.nodes.heard(&me.node, names.collect::<Result<_, _>>()?, dead);
        Ok(())
    }

    /// Is it the server the numbers are from, and has nothing been missed for too long?
    async fn recognise(&mut self, client: &mut Client) -> Result<(), tokio_postgres::Error> {
        let server = client.query_one(statements::IDENTITY, &[]).await;
        let server: Option<String> = server.and_then(|row| row.try_get(0)).ok();
        if let Some(server) = &server {
            client.execute(statements::TAKE_OVER, &[server]).await?;
        }
        let stale = self.at.elapsed() > self.shared.config.keep_removed / 2;
        if server.is_none() {
            // Who may not ask which server it is takes no chances: its numbers may be another's.
            self.era = UNKNOWN_ERA;
        }
        if stale || server.is_none() {
            self.list(client).await?;
        }
        Ok(())
    }

    /// Tells everything there is.
    async fn list(&mut self, client: &mut Client) -> Result<(), tokio_postgres::Error> {
        let newest = self.told.max(self.shared.newest.load(Ordering::Acquire));
        client.execute(statements::ADVANCE, &[&newest.cast_signed()]).await?;
        let watcher = &self.watcher;
        let known = self.era;
        let begins = &mut |clock: Clock| {
            let renumbered = clock.era != known;
            watcher.list_begins(AsOf { revision: clock.revision, renumbered });
        };
        let each = &mut |record| watcher.listed(record);
        let clock = read_all(client, &self.shared.reader, begins, each).await?;
        let Clock { revision, era, .. } = clock;
        self.watcher.list_ends();
        self.shared.health.loaded(true);
        (self.told, self.at, self.era) = (revision, Instant::now(), era);
        tracing::info!(revision, era, "database: everything read again");
        Ok(())
    }

    /// Tells what is new; `false` where that cannot be told by numbers.
    async fn look(
        &mut self,
        client: &Client,
        changes: &Statement,
    ) -> Result<bool, tokio_postgres::Error> {
        let unsure = self.shared.unsure.swap(u64::MAX, Ordering::AcqRel);
        let looked = self.look_after(client, changes, self.told.min(unsure)).await;
        if looked.is_err() {
            self.shared.unsure.fetch_min(unsure, Ordering::AcqRel);
        }
        looked
    }

    async fn look_after(
        &mut self,
        client: &Client,
        changes: &Statement,
        after: u64,
    ) -> Result<bool, tokio_postgres::Error> {
        let (writer, _) = self.shared.own_marks();
        let Clock { revision: newest, era, log_from } = Clock::read(client).await?;
        if era != self.era || after < log_from {
            return Ok(false);
        }
        if newest < self.told {
            // A backup was restored: nobody else may notice, once the numbers have grown again.
            client.execute(statements::END_ERA, &[&era]).await?;
            return Ok(false);
        }
        // Others go on writing: the rows may be newer than the clock that was read before them. What
        // has been seen must count as seen, or numbers that go back just below it go unnoticed.
        let mut seen = newest;
        if newest > after {
            let rows = client.query_raw(changes, [after.cast_signed(), writer]).await?;
            pin_mut!(rows);
            let mut records = Records::new(&self.shared.reader);
            while let Some(row) = rows.try_next().await? {
                if let Some(record) = records.row(&row)? {
                    seen = seen.max(record.revision);
                    self.watcher.changed(record);
                }
            }
            if let Some(record) = records.take() {
                seen = seen.max(record.revision);
                self.watcher.changed(record);
            }
        }
        if seen > self.told {
            self.watcher.told(seen);
        }
        (self.told, self.at) = (seen, Instant::now());
        Ok(true)
    }

    /// Deletes what everybody has forgotten, a little at a time: writers wait meanwhile.
    async fn clean(&self, client: &mut Client) -> Result<(), tokio_postgres::Error> {
        let keep_removed = self.shared.config.keep_removed;
        let before = ago(keep_removed);
        loop {
            let transaction = client.transaction().await?;
            transaction.batch_execute("SET LOCAL enable_seqscan = on").await?;
            let lapsed = transaction.query(statements::LAPSED, &[&before]).await?;
            transaction.commit().await?;
            if lapsed.is_empty() {
                break;
            }
            let column = |n| lapsed.iter().map(|row| row.try_get(n)).collect::<Result<_, _>>();
            let (tables, aors): (Vec<String>, Vec<String>) = (column(0)?, column(1)?);
            let transaction = client.transaction().await?;
            // The order of locks is everybody's.
            transaction.query_one(statements::HOLD, &[]).await?;
            transaction.execute(statements::CLEAN, &[&tables, &aors, &before]).await?;
            transaction.commit().await?;
        }
        client.execute(statements::BURY, &[]).await?;
        let before = ago(keep_removed.min(LOG_KEPT));
        loop {
            let transaction = client.transaction().await?;
            transaction.query_one(statements::HOLD, &[]).await?;
            let cut = transaction.query_one(statements::CUT_LOG, &[&before]).await?;
            let gone: i64 = cut.try_get(0)?;
            transaction.commit().await?;
            if gone == 0 {
                return Ok(());
            }
        }
    }
}

/// Milliseconds since 1970.
fn ago(time: Duration) -> i64 {
    let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    unix_ms().saturating_sub(time_ms).cast_signed()
}
