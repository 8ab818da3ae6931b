//! Routers in network namespaces of their own, each on a cable to a switch, and their peers in the
//! namespace of the switch. The namespaces have no name, need no /sys and are gone with the value.
//!
//! ```text
//! namespace of a router                            namespace of the peers
//!   router0  198.18.77.1, 2001:db8::a1  -- port1 \
//!   router0  198.18.77.2, 2001:db8::a2  -- port2 -- peers0  198.18.77.100-159, 2001:db8::b100-b13b
//! ```
//!
//! In a VLAN the same addresses are on `router0.100` and `peers0.100`, and what is on the cables is
//! tagged.
//!
//! The addresses are of networks for tests and documentation (RFC 2544, RFC 3849): private ones
//! (RFC 1918, RFC 4193) are behind NAT in a registrar's eyes, so that it reaches a phone where it
//! registered from, whatever its Contact says.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Socket, Type};

use super::net;
use super::skip::{find_program, skipped};

/// A router's interface.
pub const ROUTER: &str = "router0";
/// The peers' interface, a bridge.
pub const PEERS: &str = "peers0";
/// The VLAN, where there is one.
const VLAN: u16 = 100;
/// The peers' addresses: as many as a test needs.
const PEER_ADDRESSES: u8 = 60;
const AF_XDP: i32 = 44;
const SOCK_RAW: i32 = 3;

/// A router's cable to the switch.
#[derive(Debug)]
pub struct Wire {
    router: File,
    peers: Arc<File>,
    queues: u32,
    number: u8,
    is_vlan: bool,
}

impl Wire {
    /// A switch with one router's cable of so many queues. Takes this thread to the peers: what it
    /// opens and starts from now on is there, and [`net::own_address`] gives their IPv4 addresses.
    /// The inner error says why this machine does not let us.
    ///
    /// # Errors
    /// When the namespaces are there and `ip` fails.
    pub fn lay(queues: u32) -> Result<Result<Self, String>> {
        Self::lay_as(queues, false)
    }

    /// [`Wire::lay`] with all addresses in a VLAN.
    ///
    /// # Errors
    /// As [`Wire::lay`].
    pub fn lay_in_vlan(queues: u32) -> Result<Result<Self, String>> {
        Self::lay_as(queues, true)
    }

    fn lay_as(queues: u32, is_vlan: bool) -> Result<Result<Self, String>> {
        let needed: &[_] = if is_vlan { &["ip", "ethtool"] } else { &["ip"] };
        if let Some(missing) = needed.iter().find(|name| find_program(name).is_none()) {
            return Ok(Err(format!("{missing} is not installed")));
        }
        if let Err(error) = Socket::new(Domain::from(AF_XDP), Type::from(SOCK_RAW), None) {
            return Ok(Err(format!("no AF_XDP here: {error}")));
        }
        let (router, peers) = match (fresh(), fresh()) {
            (Ok(router), Ok(peers)) => (router, Arc::new(peers)),
            (Err(error), _) | (_, Err(error)) => {
                return Ok(Err(format!("no network namespaces here: {error:#}")));
            }
        };
        let wire = Self { router, peers, queues, number: 1, is_vlan };
        wire.at_peers(|| batch(SWITCH))??;
        if is_vlan && let Err(error) = wire.peers_ip(&tagged(PEERS)) {
            return Ok(Err(format!("no VLANs here: {error:#}")));
        }
        wire.at_peers(|| batch(&addresses(&wire.on(PEERS))))??;
        wire.plug_in()?;
        setns(&wire.peers, CloneFlags::CLONE_NEWNET)?;
        net::use_addresses(wire.peer_v4(0).ip());
        Ok(Ok(wire))
    }

    /// [`Wire::lay`], with the reason why there is none said aloud.
    ///
    /// # Errors
    /// As [`Wire::lay`].
    pub fn laid(queues: u32) -> Result<Option<Self>> {
        Ok(Self::lay(queues)?.map_err(|reason| skipped(&reason)).ok())
    }

    /// [`Wire::lay_in_vlan`], with the reason why there is none said aloud.
    ///
    /// # Errors
    /// As [`Wire::lay`].
    pub fn laid_in_vlan(queues: u32) -> Result<Option<Self>> {
        Ok(Self::lay_in_vlan(queues)?.map_err(|reason| skipped(&reason)).ok())
    }

    /// Another router's cable to the same switch; `number`: 2 to 9, each once.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn beside(&self, number: u8) -> Result<Self> {
        let peers = Arc::clone(&self.peers);
        let Self { queues, is_vlan, .. } = *self;
        let wire = Self { router: fresh()?, peers, queues, number, is_vlan };
        wire.plug_in()?;
        Ok(wire)
    }

    /// The router's address.
    #[must_use]
    pub fn router_v4(&self) -> SocketAddr {
        ([198, 18, 77, self.number], 5060).into()
    }

    /// The router's IPv6 address.
    #[must_use]
    pub fn router_v6(&self) -> SocketAddr {
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xa0 + u16::from(self.number)], 5060).into()
    }

    /// The peers' IPv4 address of this number, 0 to 59.
    #[must_use]
    pub fn peer_v4(&self, number: u8) -> SocketAddr {
        (Ipv4Addr::new(198, 18, 77, 100 + number), 0).into()
    }

    /// The peers' IPv6 address of this number, 0 to 59.
    #[must_use]
    pub fn peer_v6(&self, number: u8) -> SocketAddr {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xb100 + u16::from(number)), 0).into()
    }

    /// Lays the cable; also again after [`Wire::unplug`].
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn plug_in(&self) -> Result<()> {
        // The hardware address stays the same, as a card's that is put in again.
        let Self { queues, number, .. } = self;
        let port = self.port();
        let peers = format!("/proc/{}/fd/{}", process::id(), self.peers.as_raw_fd());
        self.router_ip(&format!(
            "link add {ROUTER} address 02:00:00:00:00:0{number} numrxqueues {queues} numtxqueues {queues} type veth \
             peer name {port} numrxqueues {queues} numtxqueues {queues} netns {peers}"
        ))?;
        self.at_peers(|| batch(&format!("link set {port} master {PEERS}\nlink set {port} up\n")))??;
        if self.is_vlan {
            // Else veth hands tags over beside the frames, where no program sees them.
            self.at_peers(|| run("ethtool", &format!("-K {port} txvlan off")))??;
            self.take_tags_off(false)?;
        }
        self.set_up().with_context(|| format!("router {number}"))
    }

    /// Has the router's interface take the tags of VLANs off, as cards do, or not.
    ///
    /// # Errors
    /// When `ethtool` fails.
    pub fn take_tags_off(&self, is_on: bool) -> Result<()> {
        let state = if is_on { "on" } else { "off" };
        self.in_router(|| run("ethtool", &format!("-K {ROUTER} rxvlan {state}")))?
    }

    /// Gives the router its addresses, and the VLAN for them where there is one; also again after
    /// [`Wire::delete_vlan`].
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn set_up(&self) -> Result<()> {
        if self.is_vlan {
            self.router_ip(&tagged(ROUTER))?;
        }
        let (on, v4, v6) = (self.on(ROUTER), self.router_v4().ip(), self.router_v6().ip());
        self.in_router(|| -> Result<()> {
            // What IPv6 forgets by default when a link goes down.
            let file = format!("/proc/sys/net/ipv6/conf/{on}/keep_addr_on_down");
            fs::write(&file, "1").with_context(|| file.clone())?;
            batch(&format!(
                "link set lo up\naddr add {v4}/24 dev {on}\n\
                 addr add {v6}/64 dev {on} nodad\nlink set {ROUTER} up\nlink set {on} up\n"
            ))
        })?
    }

    /// Takes the router's VLAN away, and so its addresses.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn delete_vlan(&self) -> Result<()> {
        self.router_ip(&format!("link del {ROUTER}.{VLAN}"))
    }

    /// The interface with the addresses where `port` is plugged in.
    fn on(&self, port: &str) -> String {
        if self.is_vlan { format!("{port}.{VLAN}") } else { port.to_owned() }
    }

    /// The switch's end of the cable.
    #[must_use]
    pub fn port(&self) -> String {
        format!("port{}", self.number)
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

/// The peers' bridge. It knows no loops, and floods what it has not learned yet.
const SWITCH: &str = "link set lo up\nlink add peers0 type bridge stp_state 0 mcast_snooping 0\n\
                      link set peers0 up\n";

/// What makes the VLAN on an interface.
fn tagged(port: &str) -> String {
    format!("link add link {port} name {port}.{VLAN} type vlan id {VLAN}")
}

/// The peers' addresses, on an interface that is brought up for them.
fn addresses(on: &str) -> String {
    let mut text = format!("link set {on} up\n");
    for number in 0..PEER_ADDRESSES {
        text.push_str(&format!("addr add 198.18.77.{}/24 dev {on}\n", 100 + number));
        text.push_str(&format!("addr add 2001:db8::b1{number:02x}/64 dev {on} nodad\n"));
    }
    text
}

/// Several `ip` commands, one a line.
fn batch(lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip")?;
    child.stdin.take().context("ip")?.write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip -batch: {}\n{lines}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn ip(words: &str) -> Result<()> {
    run("ip", words)
}

fn run(program: &str, words: &str) -> Result<()> {
    let output = Command::new(program).args(words.split_whitespace()).output();
    let output = output.with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program} {words}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
