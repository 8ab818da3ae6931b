//! The relay in front of the stack: a program in BPF (`bpf/relay.bpf.c`) that rewrites and sends the
//! packets of settled peers where they arrive.
//!
//! It is an accelerator of another executor and not one by itself: every session is carried out by
//! that one ([`crate::userspace`]), with its sockets, and what the program does not take goes up the
//! stack to them. So there is one latch: peers are learned in user space by R-M5, and the program
//! is told of a session when both its peers are settled. What is attached or detached meanwhile
//! moves no state, and loses no call (R-M8).
//!
//! * [`load`] puts the program into the kernel and yields its two halves.
//! * [`Program`] is the one that attaches it to interfaces, or lets another program jump to it. It
//!   needs capabilities.
//! * [`Table`] is the one with sessions and counters, for an [`XdpRelay`]. It needs none.
//!
//! What differs from the other executors: nothing is learned, and packets are not given a priority
//! (R-M7), as no queue sees them; legs with a priority or a handover, or of two families, stay with
//! user space.
//!
//! What none of that relays goes up the stack, or first to a second program, which asks the kernel module
//! where its steering rules want it ([`Program::consult`]).
//!
//! Unsafe code is in `layout` (plain bytes) and `consult` (libbpf, which is C).

mod consult;
mod features;
mod layout;
mod program;
mod relay;
mod table;

pub use consult::{CONSULTED, can_consult};
pub use layout::OUTCOMES;
pub use program::{Mode, Program, XdpFault, load};
pub use relay::XdpRelay;
pub use table::Table;
