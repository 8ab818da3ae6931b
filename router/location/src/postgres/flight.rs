//! A group on its way to the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::config::describe;
use super::session::Session;
use super::{Background, Shared};
use crate::store::{Write, Written};

/// What the task that writes it tells, in this order.
enum News {
    /// It waits for the disk only.
    Decided,
    Ended(Result<Written, String>),
}

/// A group that a task of the runtime writes.
pub(super) struct Flight {
    /// What it is written by; `None`: there was no connection.
    session: Option<Arc<Session>>,
    news: Receiver<News>,
    ended: Option<Result<Written, String>>,
    /// When its turn began: those before it were written then.
    turn: Instant,
}

impl Flight {
    /// Sends the group to the database, if there is a connection.
    pub(super) fn begin(shared: &Arc<Shared>, runtime: &Background, group: Vec<Write>) -> Flight {
        // Nobody waits to tell: there is room for both.
        let (tell, news) = sync_channel(2);
        let session = shared.session.lock().clone();
        let ended = session.is_none().then(|| Err("no connection".to_owned()));
        if let Some(session) = session.clone() {
            let shared = Arc::clone(shared);
            runtime.spawn(async move {
                let is_alone = shared.nodes.is_alone();
                let decided = || drop(tell.send(News::Decided));
                let written = session.write(&group, &shared.reader, is_alone, decided).await;
                drop(tell.send(News::Ended(written.map_err(|error| describe(&error)))));
            });
        }
        Flight { session, news, ended, turn: Instant::now() }
    }

    /// Those before it are written.
    pub(super) fn take_turn(&mut self) {
        self.turn = Instant::now();
    }

    /// Waits until it waits for the disk only; `false`: it has failed before, or there is no answer
    /// within `limit` of its turn.
    pub(super) fn decided(&mut self, limit: Duration) -> bool {
        if self.ended.is_none() {
            match self.next(limit) {
                News::Decided => return true,
                News::Ended(ended) => self.ended = Some(ended),
            }
        }
        false
    }

    /// Waits until it is written, `limit` after its turn began at most. On an error what became of
    /// it is not known; the connection goes with it.
    pub(super) fn end(mut self, shared: &Shared, limit: Duration) -> Result<Written, String> {
        let ended = loop {
            if let Some(ended) = self.ended.take() {
                break ended;
            }
            if let News::Ended(ended) = self.next(limit) {
                self.ended = Some(ended);
            }
        };
        let Some(session) = &self.session else { return ended };
        match &ended {
            // Not before: what comes too late is not known.
            Ok(written) => {
                session.known.fetch_max(written.revision, Ordering::AcqRel);
            }
            Err(_) => {
                // With all it may still do under its mark.
                shared.give_up(session);
                session.close();
                shared.given_up.notify_one();
            }
        }
        ended
    }

    fn next(&self, limit: Duration) -> News {
        let left = limit.saturating_sub(self.turn.elapsed());
        self.news.recv_timeout(left).unwrap_or_else(|fault| {
            News::Ended(Err(match fault {
                RecvTimeoutError::Timeout => format!("no answer within {limit:?}"),
                RecvTimeoutError::Disconnected => "writing panicked".to_owned(),
            }))
        })
    }
}
