//! The client of the kernel module, `kmod/`. The interface is specified in `kmod/uapi/viaduct.h`,
//! whose names are repeated here.

mod client;
mod decode;
mod encode;
mod families;
mod names;
pub(crate) mod wire;

pub use client::{KernelRelay, Owner};
pub(crate) use families::{Announced, Families};
