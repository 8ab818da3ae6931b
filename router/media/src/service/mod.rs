//! The media relay as the engine sees it ([`viaduct_engine::media::Media`]): finds the call an order
//! is about, has it rewrite the description, and has the executor carry out what follows.
//!
//! One lock guards calls, ports and executor; an order holds it for some tens of microseconds. The
//! caller looks after it once a second ([`Service::tick`]): idle calls and those too old end then.

mod calls;
mod dialog;
mod handle;
mod interfaces;
pub(crate) mod kept;
mod numbers;
mod restore;
mod standing;
mod view;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use viaduct_engine::Now;
use viaduct_engine::media::{
    CallView, Handled, Media, MediaFault, MediaFlags, MediaMessage, MediaRecord, Order, Tags,
};

use self::calls::Calls;
use self::dialog::Dialog;
use self::interfaces::Interfaces;
pub use self::interfaces::{Interface, InterfaceError};
pub use self::kept::{Journal, Key};
pub use self::numbers::Numbers;
pub use self::restore::Restored;
use self::standing::Standing;
pub use self::view::CallEntry;
use crate::call::Settings;
use crate::executor::{Carrying, Executor};

/// How calls are relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses, at least one. The first of a family is used where no flag names one.
    pub interfaces: Vec<Interface>,
    /// What is the same for all calls.
    pub settings: Settings,
    /// Calls at a time; more are refused as busy.
    pub calls: usize,
    /// A call is ended after so many seconds; 0: never.
    pub lifetime_s: u64,
    /// One without an answer is ended after so many seconds.
    pub unanswered_s: u64,
    /// One on hold may be silent for so many seconds; 0: for ever.
    pub held_s: u64,
    /// A port that was used rests for so many milliseconds.
    pub rest_ms: u64,
    /// Calls wait for so many seconds for the router to come back.
    pub grace_s: u32,
}

impl Config {
    /// Whether its interfaces make sense.
    ///
    /// # Errors
    /// See [`InterfaceError`].
    pub fn check(&self) -> Result<(), InterfaceError> {
        Interfaces::new(&self.interfaces, self.rest_ms).map(drop)
    }
}

/// Numbers nobody can foresee.
pub type Draw = Box<dyn FnMut() -> u64 + Send>;

/// Gets a record of each call that ends.
pub type Sink = Box<dyn Fn(MediaRecord) + Send>;

/// A media relay all workers share.
pub struct Service {
    inner: Mutex<Inner>,
    standing: Mutex<Standing>,
}

struct Inner {
    config: Config,
    interfaces: Interfaces,
    executor: Box<dyn Executor>,
    calls: Calls,
    /// Calls the executor has told to be idle, and that may be on hold.
    silent: HashSet<u64>,
    next_id: u64,
    /// Numbers that cannot be foreseen: ports are chosen by them.
    draw: Draw,
    numbers: Numbers,
    sink: Sink,
    journal: Option<Arc<dyn Journal>>,
}

impl Service {
    /// Relays by `executor`, and tells `sink` of each call that has ended.
    ///
    /// # Errors
    /// An interface makes no sense, or two share ports.
    pub fn new(
        config: Config,
        executor: Box<dyn Executor>,
        sink: Sink,
    ) -> Result<Service, InterfaceError> {
        let interfaces = Interfaces::new(&config.interfaces, config.rest_ms)?;
        let inner = Inner {
            config,
            interfaces,
            executor,
            calls: Calls::default(),
            silent: HashSet::new(),
            next_id: 1,
            draw: system_draw(),
            numbers: Numbers::default(),
            sink,
            journal: None,
        };
        Ok(Service { inner: Mutex::new(inner), standing: Mutex::default() })
    }

    /// Chooses ports by these numbers in place of the system's: for a simulation, which is to do
    /// the same again.
    #[must_use]
    pub fn drawing(self, draw: Draw) -> Service {
        self.lock().draw = draw;
        self
    }

    /// Takes up what an earlier process has kept, and keeps what there is from now on. For the
    /// beginning, before there are calls.
    pub fn keep(
        &self,
        now: Now,
        journal: Arc<dyn Journal>,
        kept: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Restored {
        let mut inner = self.lock();
        inner.journal = Some(journal);
        inner.restore(now, kept)
    }

    /// What is to be looked after: call it about once a second, off the workers.
    pub fn tick(&self, now: Now) {
        let settled = self.lock().tick(now);
        self.note_standing(now, settled);
    }

    /// All calls, the oldest first; at most `most`. Orders of the workers come in between.
    #[must_use]
    pub fn list(&self, now: Now, most: usize) -> Vec<CallEntry> {
        let ids = self.lock().ids(most);
        ids.into_iter().filter_map(|(id, call_id)| self.lock().entry(now, id, &call_id)).collect()
    }

    /// Calls with this Call-ID.
    #[must_use]
    pub fn show(&self, now: Now, call_id: &[u8]) -> Vec<CallEntry> {
        self.lock().show(now, call_id)
    }

    /// Ends the media of calls with this Call-ID; how many. Their SIP goes on.
    pub fn kill(&self, now: Now, call_id: &[u8]) -> usize {
        self.lock().kill(now, call_id)
    }

    /// Counters and gauges.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.lock().numbers()
    }

    /// Who carries sessions, and why not the kernel.
    #[must_use]
    pub fn carrying(&self) -> Carrying {
        self.lock().executor.carrying()
    }

    /// The router ends: what is kept waits for the next one, the rest ends here.
    pub fn close(&self, now: Now) {
        let is_kept = self.lock().journal.is_some();
        if is_kept {
            self.lock().executor.halt();
            self.note_standing(now, true);
        } else {
            self.lock().close(now);
        }
    }

    /// Nobody panics while holding it; if somebody did, the tables are still whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Media for Service {
    fn handle(
        &self,
        now: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Handled, MediaFault> {
        self.lock().handle(now, order, message).map(Handled::Done)
    }

    fn refused(&self, now: Now, tags: Tags<'_>, branch: Option<u32>) {
        self.lock().refused(now, tags, branch);
    }

    fn query(&self, now: Now, tags: Tags<'_>) -> Option<CallView> {
        self.lock().query(now, tags)
    }

    fn check(&self, flags: &MediaFlags) -> Result<(), String> {
        self.lock().interfaces.check(flags)
    }
}

/// Seeded by the system: what it makes of a number cannot be foreseen.
pub(crate) fn system_draw() -> Draw {
    let (random, mut drawn) = (RandomState::new(), 0u64);
    Box::new(move || {
        drawn = drawn.wrapping_add(1);
        random.hash_one(drawn)
    })
}

/// Milliseconds since a call began, as what a process before this one has seen of it counts.
fn age_ms(now: Now, dialog: &Dialog) -> u64 {
    ms(now).saturating_sub(dialog.begun_ms).saturating_add(dialog.aged_ms)
}

/// Milliseconds of the clock the ports and windows run by.
fn ms(now: Now) -> u64 {
    now.mono_us / 1_000
}
