//! The client of the kernel module, `kmod/`. The interface is specified in `kmod/uapi/viaduct.h`,
//! whose names are repeated here.

mod client;
mod decode;
mod encode;
mod families;
mod names;
mod steering;
pub(crate) mod wire;

pub use client::{KernelRelay, Owner};
pub use decode::heard;
pub(crate) use families::{Announced, Families};
pub use steering::{Cpus, CpusError, RULES_MAX, Rule, RuleReport, Steering, Traffic};
