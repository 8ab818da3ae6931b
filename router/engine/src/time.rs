//! Time as an input: the engine reads no clock.

/// The moment at which an input is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Microseconds of a clock that never goes back; its zero is the shell's choice. Timers use it.
    pub mono_us: u64,
    /// Milliseconds since 1970-01-01 UTC. Bindings expire by it, so that expiry survives a restart.
    pub unix_ms: u64,
}
