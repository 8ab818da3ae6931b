//! Media relay. What a session is stands in [`session`]; who carries it out is an [`Executor`]: the
//! kernel module ([`kernel`]), or this process itself ([`userspace`]).

pub mod executor;
pub mod kernel;
pub mod session;

pub use executor::{Executor, ExecutorError};
