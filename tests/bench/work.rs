//! What is asked of a server, and how much of it.

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A datagram that comes back as it is: the floor.
    Echo,
    /// OPTIONS to the server itself, answered 200.
    Options,
    /// A REGISTER that refreshes one of 1,000 bindings held in memory.
    Register,
    /// A whole call through the server as a record-routing, stateful proxy, the callee being
    /// looked up among 1,000: six messages in, seven out.
    Call,
}

/// Requests (calls) that are under way at any time.
pub(crate) const OUTSTANDING: usize = 64;
/// Addresses of record that are registered.
pub(crate) const AORS: usize = 1_000;

impl Work {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 4] = [Self::Echo, Self::Options, Self::Register, Self::Call];

    /// Its name on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Options => "options",
            Self::Register => "register",
            Self::Call => "call",
        }
    }

    /// Answered requests (calls) of one measurement, chosen to take a few seconds of CPU.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Echo | Self::Options | Self::Register => 200_000,
            Self::Call => 20_000,
        }
    }

    /// The same by AF_XDP, Kamailio on kernel UDP.
    pub(crate) fn xdp_target(self) -> f64 {
        match self {
            Self::Echo | Self::Options => 2.5,
            Self::Register | Self::Call => 3.0,
        }
    }

    /// How many times Kamailio's requests per CPU-second we set out to reach.
    pub(crate) fn target(self) -> Option<f64> {
        match self {
            Self::Echo => None,
            Self::Options => Some(1.7),
            Self::Register | Self::Call => Some(2.0),
        }
    }
}
