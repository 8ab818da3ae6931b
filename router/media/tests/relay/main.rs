//! What every executor must do, shown with real packets between network namespaces. By default the
//! subject is the relay in user space; `VIADUCT_RELAY=xdp` puts the XDP program in front of it, in the
//! drivers, `xdp-generic` in the kernel; `module` makes it the kernel module, which must be loaded
//! (`make -C kmod qemu-test` does that in QEMU).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod churn;
mod consult;
mod control;
mod direct;
mod fallback;
mod filter;
mod forward;
mod fuzz;
mod ingress;
mod learn;
mod namespace;
mod packets;
mod phone;
mod stage;
mod steer;
mod within;
mod xdp;
