//! Wrappers around a datagram provider: one records, one misbehaves.
//!
//! Both implement the traits they wrap, so a worker, a test or another wrapper uses them in place
//! of a socket. [`PcapTap`] writes what passes to a capture that Wireshark and sngrep open;
//! [`FaultyLink`] loses, repeats and reorders what is sent, the same way for the same seed.

mod faulty;
pub mod pcap;

pub use faulty::{Faults, FaultyLink};
pub use pcap::PcapTap;
