//! Media relayed by other machines: nodes that speak rtpengine's ng protocol. The same orders go
//! there as to the relay of this process, and the node rewrites the description itself.
//!
//! [`client`] is the protocol without a socket or a clock, [`relay`] makes commands of orders and
//! remembers which node has which call, and [`NgRelay`] puts both on sockets.

pub mod bencode;
pub mod client;
pub mod nodes;
pub mod relay;

mod calls;
mod command;
mod kept;
mod report;
mod wire;

pub use self::client::{ClientConfig, Counts};
pub use self::nodes::{NodeConfig, NodeState};
pub use self::relay::{CallReply, Config, Reply};
pub use self::wire::{Clock, Kept, NgNumbers, NgRelay};
