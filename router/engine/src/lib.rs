//! The sans-IO core of the router: transactions, proxy, registrar, and the hook for policies.
//!
//! Nothing in here opens a socket, reads a clock, starts a thread, awaits, or knows WebAssembly.
//! Time and randomness come in with the inputs. Start reading at [`engine`] (one door in, one door
//! out), then [`run`] (what a policy sees), then `proxy` and [`registrar`].

pub mod auth;
pub mod counters;
pub mod dispatcher;
pub mod engine;
pub mod flow;
pub mod hook;
pub mod http;
pub mod io;
pub mod location;
pub mod media;
mod outbox;
pub mod path;
mod proxy;
pub mod query;
pub mod registrar;
mod reject;
pub mod run;
pub mod settings;
pub mod shard;
pub mod table;
pub mod time;
pub mod timer;
pub mod transaction;

pub use auth::{Auth, AuthFault};
pub use counters::Counters;
pub use engine::{Engine, Held, begins_new};
pub use flow::{ConnId, Flow, Transport};
pub use hook::{FailureKind, Phase, Policy, PolicyFailure, Verdict};
pub use io::{Event, Hop, Input, Output, Ping, PingId, Question, Token};
pub use location::{AorKey, Change, CommitFault, Location, Snapshot};
pub use query::{Fact, Query, QueryFault};
pub use run::Run;
pub use settings::{Bounds, Listener, Network, Settings, Shared, TimerValues};
pub use time::Now;
