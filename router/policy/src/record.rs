//! Recorded runs: what went in, what was decided, and the same run again with another version.
//!
//! A run is a function of its inputs (design: a run is a function), so a record of the inputs is
//! enough to see what any version would have decided. [`case`] is what is kept, [`session`] a
//! recording under way, [`replay`] runs a version over cases.

pub mod case;
pub mod http;
pub mod media;
pub mod replay;
pub mod session;
mod tap;

pub use case::{AuthSetup, Case, CaseError, Header, Setup};
pub use http::HttpFact;
pub use replay::{Replay, Replayed};
pub use session::{Filter, RecordLimits, Session};
