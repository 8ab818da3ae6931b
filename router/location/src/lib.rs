//! The location service (usrloc): a shared table in memory that answers every look-up at once, and
//! a store behind it that has a change before anybody is told of it.
//!
//! This crate may not know SIP messages, sockets or WebAssembly; what a REGISTER means is
//! `viaduct_engine::registrar`'s part. Start reading at [`LocationService`] (the one entry), then
//! `table` (who sees what when), `commit` (the queue), `committer` (the store thread), `record`
//! (bytes on disk), `postgres` (a database that several routers may share).
//!
//! A change has three lives: *staged* (checked against the version it was computed from, seen by
//! `Location::latest` only), *stored* (its group's transaction is on disk) and *committed* (seen by
//! `Location::get`, its caller told). What fails falls back to what was committed, with everything
//! staged upon it. In write-back mode a change is committed first and stored later: *unsaved* until
//! then.

mod commit;
mod committer;
mod expiry;
mod health;
pub mod import;
mod inbox;
mod keepalive;
mod merge;
mod nodes;
pub mod portable;
mod postgres;
mod record;
mod redb_file;
mod redb_store;
mod service;
mod shard;
mod store;
mod table;

pub use expiry::Expired;
pub use health::Trouble;
pub use keepalive::{Due, Keepalive, KeepaliveConfig, drop_bindings};
pub use merge::merge;
pub use postgres::{
    PostgresConfig, PostgresStore, Tls, connector as tls_connector, describe, roots as tls_roots,
};
pub use record::{RecordError, decode, encode};
pub use redb_file::{FileFault, RedbFile};
pub use redb_store::{RedbStore, Repaired, Verified, repair, verify};
pub use service::{Backend, Config, Counts, LocationService, Mode, OpenError};
pub use store::{AsOf, Pipeline, Record, Store, StoreError, Watcher, Write, Written};
