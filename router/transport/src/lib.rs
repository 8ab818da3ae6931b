//! Sockets for SIP: UDP in batches, AF_XDP, TCP as framed messages.
//!
//! One worker thread owns one set of these objects; nothing in here is shared, locks, spawns a
//! thread, blocks, or reads a clock (the caller passes `now_us` of its monotonic clock). The crate
//! knows where a message begins and ends and nothing else about SIP.
//!
//! A turn of the worker's loop is:
//!
//! 1. `mio::Poll::poll`; each event goes to [`TcpProvider::ready`] or marks a UDP socket readable;
//! 2. [`DatagramRx::recv`] into a [`RecvBatch`], [`TcpProvider::turn`] into a closure;
//! 3. what the engine wants to send is appended to one [`SendBatch`] by [`SendBatch::commit`];
//! 4. [`UdpSockets::flush`], then [`TcpProvider::flush`] take from the batch what is theirs;
//! 5. [`TcpProvider::on_tick`] when [`TcpProvider::next_deadline_us`] has come.
//!
//! AF_XDP (`xdp`) is a second way for datagrams: its ports take from the batch what
//! they can send, before the UDP sockets do.
//!
//! Start reading at [`provider`], then [`udp`], `xdp` and [`tcp`]. [`tap`] holds wrappers that count,
//! lose, repeat and record datagrams around any provider.

mod mmsg;
pub mod provider;
mod sockets;
pub mod tap;
pub mod tcp;
pub mod udp;
pub mod xdp;

pub use provider::{Datagram, DatagramRx, DatagramTx, RecvBatch, SendBatch, SendFailure};
pub use sockets::{BufferSizes, ensure_unused};
pub use tcp::{CloseReason, TcpConfig, TcpCounters, TcpEvent, TcpProvider};
pub use udp::{Sieve, UdpConfig, UdpCounters, UdpSocket, UdpSockets};
