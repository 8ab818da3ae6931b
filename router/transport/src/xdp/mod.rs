//! AF_XDP: datagrams between the network card and a worker, past the kernel's stack.
//!
//! A program in front of the stack (`bpf/steer.bpf.c`) sends SIP over UDP to the AF_XDP socket of
//! the worker that owns it; everything else goes up the stack as ever, where the same workers'
//! kernel sockets are bound to the same addresses. So a kernel socket can stand in at any moment,
//! in both directions: for a peer whose hardware address is not known, for a message that needs
//! fragments, for an interface that has gone.
//!
//! * [`interfaces`] says what there is; a [`Plan`] what is wanted of one interface.
//! * [`Attachment::open`] tries the [`Rung`]s and yields the ports of each worker.
//! * [`XdpPorts`] is the provider of one worker.
//! * [`Watcher`] keeps routes and neighbours current.
//! * [`Program`] is the steering program alone, also as the chooser among kernel sockets.
//!
//! Unsafe code is in `frames` (rings and frames), `layout` (plain bytes) and `offload` (a system call).

mod attachment;
mod checksum;
mod frames;
mod hops;
mod interface;
pub mod layout;
mod netlink;
mod offload;
mod packet;
pub(crate) mod program;
mod provider;

pub use attachment::{Attachment, Plan, Refusal, Rung, WorkerPorts};
pub use frames::Frames;
pub use hops::{Network, News, Watcher};
pub use interface::{Interface, interfaces};
pub use packet::Mac;
pub use program::{Program, ProgramFault};
pub use provider::{XdpCounters, XdpPorts};
