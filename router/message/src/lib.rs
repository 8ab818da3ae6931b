//! SIP messages as bytes: one pass finds the lines, a header is parsed when somebody asks, and what
//! goes out is the original bytes plus ordered edits.
//!
//! This crate may not know a clock, a socket or a thread, and the scan does not allocate.
//! Start reading at [`scan`] (bytes to spans), then [`message`] (the view everybody uses).
#![warn(missing_docs)]

mod aor;
mod chars;
pub mod check;
mod compare;
pub mod edit;
pub mod error;
pub mod essentials;
pub mod framing;
pub mod header;
mod host;
pub mod message;
pub mod method;
pub mod name;
mod number;
pub mod place;
pub mod response;
pub mod scan;
pub mod span;
pub mod stun;
pub mod uri;

pub use edit::Edits;
pub use error::Fault;
pub use essentials::Essentials;
pub use header::{CSeq, Contacts, NameAddr, Param, Params, Via};
pub use message::Message;
pub use method::Method;
pub use name::{HeaderName, same_label};
pub use number::{ip_text, write_decimal};
pub use place::{ContactPlace, UriPlace};
pub use scan::{Head, Limits, Line, Start};
pub use span::Span;
pub use uri::{Host, Scheme, Uri};
