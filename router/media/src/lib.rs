//! Media relay. What a session is stands in [`session`]; who carries it out is an [`Executor`]: the
//! kernel module ([`kernel`]), this process itself ([`userspace`]), or both ([`fallback`]); a program
//! in front of the stack ([`xdp`]) may take settled sessions off this process. What they do with a
//! packet is written down once without sockets or a clock, in [`relay`], [`latch`], [`packet`] and
//! [`budget`]; the module and the program have the same in C, and all pass the tests of
//! `tests/relay`.
//!
//! Or media go through other machines: [`ng`] speaks to rtpengine nodes.

pub mod budget;
pub mod call;
mod dialog;
pub mod executor;
pub mod fallback;
pub mod kernel;
pub mod latch;
pub mod memory;
pub mod ng;
pub mod packet;
pub mod ports;
pub mod relay;
pub mod sdp;
pub mod service;
pub mod session;
pub mod userspace;
pub mod xdp;

pub use executor::{Executor, ExecutorError};
pub use service::Service;
