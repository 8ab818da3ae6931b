//! Helpers for tests with real processes. No helper asserts: each returns what happened, with the
//! peers' own logs in the error, and the test judges.

pub mod authority;
pub mod digest;
pub mod disk;
pub mod family;
pub mod http_server;
pub mod kamailio;
pub mod net;
pub mod netns;
pub mod packets;
pub mod phone;
pub mod place;
pub mod policy;
pub mod postgres;
pub mod process;
pub mod router;
pub mod rtpengine;
pub mod sip_client;
pub mod sip_text;
pub mod sipp;
pub mod skip;
pub mod storm;
pub mod wire;
