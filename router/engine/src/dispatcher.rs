//! Sets of destinations a policy shares its requests out to: gateways, media servers, registrars.
//!
//! Destinations and their weights are configuration; whether one is up is found out by OPTIONS
//! ([`probe`]) and by what policies report. All workers share one [`Dispatcher`]; states are atomics,
//! so choosing takes no lock. How a destination is chosen is in [`choice`].

pub mod choice;
pub mod probe;

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

pub use choice::Algorithm;
pub use probe::{Prober, Probing};

/// Most destinations of all sets, and of one.
pub const MOST_DESTINATIONS: usize = 4096;
/// Most destinations a policy tries for one request.
pub const MOST_TRIES: usize = 16;
/// Longest URI and longest attributes of a destination, bytes.
pub const MOST_TEXT_BYTES: usize = 256;

/// Whether requests are sent there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Yes.
    #[default]
    Up = 0,
    /// No: it does not answer.
    Down = 1,
    /// No: an operator says so.
    Disabled = 2,
}

/// One destination as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationConfig {
    /// Name of its set.
    pub set: Box<str>,
    /// SIP URI of the next hop.
    pub uri: Box<str>,
    /// Share of the requests, 1 to 1000.
    pub weight: u16,
    /// Higher ones first, where order of priority is asked for.
    pub priority: u16,
    /// Text for the policy.
    pub attributes: Box<str>,
}

/// One destination.
#[derive(Debug)]
pub struct Destination {
    config: DestinationConfig,
    state: AtomicU8,
    /// Signs of death in a row, or of life while it is down.
    run: AtomicU32,
    /// What its last probe gave, packed; 0: none yet.
    probed: AtomicU64,
}

/// What a probe gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Status of its answer; 0: there was none in time.
    pub status: u16,
    /// How long the answer took, microseconds.
    pub latency_us: u32,
}

impl Destination {
    /// As configured.
    pub fn config(&self) -> &DestinationConfig {
        &self.config
    }

    /// Whether requests are sent there.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Up,
            1 => State::Down,
            _ => State::Disabled,
        }
    }

    /// Sets the state; what an operator does.
    pub fn set_state(&self, state: State) {
        self.run.store(0, Ordering::Relaxed);
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Signs in a row against its state: of death while it is up, of life while it is down.
    pub fn signs(&self) -> u32 {
        self.run.load(Ordering::Relaxed)
    }

    /// What its last probe gave; `None`: it has not been probed.
    pub fn probed(&self) -> Option<Probed> {
        let packed = self.probed.load(Ordering::Relaxed);
        let (status, latency_us) = ((packed >> 32) as u16, packed as u32);
        (packed & PROBED != 0).then_some(Probed { status, latency_us })
    }

    pub(crate) fn set_probed(&self, probed: Probed) {
        let Probed { status, latency_us } = probed;
        let packed = PROBED | u64::from(status) << 32 | u64::from(latency_us);
        self.probed.store(packed, Ordering::Relaxed);
    }

    /// A sign of life or of death. True where that has changed its state.
    pub fn sign(&self, alive: bool, thresholds: Thresholds) -> bool {
        let state = self.state();
        let (from, to, needed) = match alive {
            true => (State::Down, State::Up, thresholds.up_after),
            false => (State::Up, State::Down, thresholds.down_after),
        };
        if state != from {
            self.run.store(0, Ordering::Relaxed);
            return false;
        }
        let signs = self.run.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if signs < needed.max(1) {
            return false;
        }
        self.run.store(0, Ordering::Relaxed);
        // An operator may have disabled it meanwhile: then that stays.
        let (from, to) = (from as u8, to as u8);
        self.state.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Marks that there was a probe, above its status and its time.
const PROBED: u64 = 1 << 48;

/// How many signs in a row change a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Signs of death, 1 or more.
    pub down_after: u32,
    /// Signs of life, 1 or more.
    pub up_after: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { down_after: 3, up_after: 1 }
    }
}

/// One set.
#[derive(Debug)]
pub struct Set {
    name: Box<str>,
    destinations: Vec<Destination>,
    /// Where round robin stands.
    turn: AtomicUsize,
}

impl Set {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its destinations, in the order of the configuration.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The destination with this URI.
    pub fn find(&self, uri: &str) -> Option<&Destination> {
        self.destinations.iter().find(|destination| *destination.config.uri == *uri)
    }
}

/// All sets.
#[derive(Debug, Default)]
pub struct Dispatcher {
    sets: Vec<Set>,
    thresholds: Thresholds,
}

/// What a run wants done when it has ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DispatcherChange {
    /// Round robin of this set goes on by one.
    Turn(Box<str>),
    /// A destination of this set has shown a sign of life or of death.
    Sign {
        /// The set.
        set: Box<str>,
        /// URI of the destination.
        uri: Box<str>,
        /// Life.
        alive: bool,
    },
}

impl Dispatcher {
    /// Sets in the order their first destination is named.
    pub fn new(
        configs: impl IntoIterator<Item = DestinationConfig>,
        thresholds: Thresholds,
    ) -> Dispatcher {
        let mut sets: Vec<Set> = Vec::new();
        for config in configs.into_iter().take(MOST_DESTINATIONS) {
            let (state, run) = (AtomicU8::default(), AtomicU32::default());
            let destination = Destination { config, state, run, probed: AtomicU64::default() };
            let name = destination.config.set.clone();
            match sets.iter_mut().find(|set| set.name == name) {
                Some(set) => set.destinations.push(destination),
                None => sets.push(Set {
                    name,
                    destinations: vec![destination],
                    turn: AtomicUsize::default(),
                }),
            }
        }
        Dispatcher { sets, thresholds }
    }

    /// Takes the states over of destinations that are still there.
    #[must_use]
    pub fn succeeding(self, before: &Dispatcher) -> Dispatcher {
        for set in &self.sets {
            let Some(old) = before.set(&set.name) else { continue };
            set.turn.store(old.turn.load(Ordering::Relaxed), Ordering::Relaxed);
            for destination in &set.destinations {
                if let Some(known) = old.find(&destination.config.uri) {
                    destination.set_state(known.state());
                    destination
                        .probed
                        .store(known.probed.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
        }
        self
    }

    /// All sets.
    pub fn sets(&self) -> &[Set] {
        &self.sets
    }

    /// The set of that name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| *set.name == *name)
    }

    /// Thresholds of all its destinations.
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// Carries out what a run has staged. Gives the destination whose state that has changed.
    pub fn apply(&self, change: &DispatcherChange) -> Option<&Destination> {
        match change {
            DispatcherChange::Turn(set) => {
                self.set(set)?.turn.fetch_add(1, Ordering::Relaxed);
                None
            }
            DispatcherChange::Sign { set, uri, alive } => {
                let destination = self.set(set)?.find(uri)?;
                destination.sign(*alive, self.thresholds).then_some(destination)
            }
        }
    }
}

#[cfg(test)]
mod tests;
