//! The daemon behind the command `viaduct`: configuration, admin API, metrics, logs, CLI, and the
//! worker threads that join the engine to policies, location service and transport.
//!
//! Nothing in here decides about a message: that is the engine's and the policy's. Start reading at
//! [`serve`] (the life of a running router), then [`control`] (what may be asked of it).
#![warn(missing_docs)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
mod credentials;
pub mod events;
mod http;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod open_files;
mod packets;
pub mod policy_tests;
mod privileges;
pub mod random;
mod resolve;
pub mod runtime;
#[cfg(test)]
mod scratch;
pub mod serve;
pub mod show;
mod worker;
