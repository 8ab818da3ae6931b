//! Two network namespaces joined by a pair of veth interfaces: a router in one, its peers in the
//! other. They have no name, need no /sys and are gone with the value.
//!
//! ```text
//! namespace of the router                       namespace of the peers
//!   router0  10.77.0.1/24, fd77::1/64  -------  peers0  10.77.0.2-60/24, fd77::2/64
//! ```

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{self, Command};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};

use super::net;
use super::skip::{find_program, skipped};

/// The router's interface.
pub const ROUTER: &str = "router0";
/// The peers' interface.
pub const PEERS: &str = "peers0";

/// The pair.
#[derive(Debug)]
pub struct Wire {
    router: File,
    peers: File,
    queues: u32,
}

impl Wire {
    /// Lays it, with so many queues at each end, and takes this thread to the peers: what it opens
    /// and starts from now on is there, and [`net::own_address`] gives their addresses. `None`, and
    /// said aloud, where this machine does not let us.
    ///
    /// # Errors
    /// When the namespaces are there and `ip` fails.
    pub fn lay(queues: u32) -> Result<Option<Self>> {
        if find_program("ip").is_none() {
            skipped("iproute2 is not installed");
            return Ok(None);
        }
        let (router, peers) = match (fresh(), fresh()) {
            (Ok(router), Ok(peers)) => (router, peers),
            (Err(error), _) | (_, Err(error)) => {
                skipped(&format!("no network namespaces here: {error:#}"));
                return Ok(None);
            }
        };
        let wire = Self { router, peers, queues };
        wire.plug_in()?;
        setns(&wire.peers, CloneFlags::CLONE_NEWNET)?;
        net::use_addresses(Ipv4Addr::new(10, 77, 0, 2));
        Ok(Some(wire))
    }

    /// The router's address.
    #[must_use]
    pub fn router_v4(&self) -> SocketAddr {
        ([10, 77, 0, 1], 5060).into()
    }

    /// The router's IPv6 address.
    #[must_use]
    pub fn router_v6(&self) -> SocketAddr {
        ([0xfd77, 0, 0, 0, 0, 0, 0, 1], 5060).into()
    }

    /// The peers' IPv6 address.
    #[must_use]
    pub fn peer_v6(&self) -> SocketAddr {
        ([0xfd77, 0, 0, 0, 0, 0, 0, 2], 0).into()
    }

    /// Makes the interfaces and their addresses; also again after [`Wire::unplug`].
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn plug_in(&self) -> Result<()> {
        let (q, peers) = (self.queues.to_string(), self.peers.as_raw_fd());
        let peers = format!("/proc/{}/fd/{peers}", process::id());
        self.router_ip(&format!(
            "link add {ROUTER} numrxqueues {q} numtxqueues {q} type veth \
             peer name {PEERS} numrxqueues {q} numtxqueues {q} netns {peers}"
        ))?;
        for words in ["link set lo up", "addr add fd77::2/64 dev peers0 nodad"] {
            self.peers_ip(words)?;
        }
        for last in 2..=60 {
            self.peers_ip(&format!("addr add 10.77.0.{last}/24 dev {PEERS}"))?;
        }
        self.peers_ip(&format!("link set {PEERS} up"))?;
        self.router_ip("link set lo up")?;
        self.router_ip(&format!("addr add 10.77.0.1/24 dev {ROUTER}"))?;
        self.router_ip(&format!("addr add fd77::1/64 dev {ROUTER} nodad"))?;
        self.router_ip(&format!("link set {ROUTER} up"))
    }

    /// Takes the interfaces away, as when a card is pulled out.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn unplug(&self) -> Result<()> {
        self.router_ip(&format!("link del {ROUTER}"))
    }

    /// `ip WORDS` where the router is.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn router_ip(&self, words: &str) -> Result<()> {
        self.in_router(|| ip(words))?
    }

    /// `ip WORDS` where the peers are.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn peers_ip(&self, words: &str) -> Result<()> {
        self.at_peers(|| ip(words))?
    }

    /// Does something where the peers are, on a thread of its own.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn at_peers<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        within(&self.peers, work)
    }

    /// Does something where the router is: what is started there stays there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn in_router<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        within(&self.router, work)
    }
}

/// A new namespace, kept by its file.
fn fresh() -> Result<File> {
    let made = thread::spawn(|| -> Result<File> {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
        Ok(File::open("/proc/thread-self/ns/net")?)
    });
    made.join().map_err(|_| anyhow!("a thread panicked"))?
}

fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let done = scope.spawn(move || -> Result<T> {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("setns")?;
            Ok(work())
        });
        done.join().map_err(|_| anyhow!("a thread panicked"))?
    })
}

fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split_whitespace()).output().context("ip")?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
