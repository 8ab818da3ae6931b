//! Where the servers are: on loopback, or (`--veth`) on a cable of their own in a network namespace,
//! where AF_XDP can be had.
//!
//! Packets that come in over veth are worked on in NAPI, which would run on the sender's core and
//! be paid by nobody. So both ends of the cable get NAPI threads (GRO on, `threaded`): those of the
//! servers' end run on the servers' core and count as theirs, those of the other end on the
//! generator's. What is left for soft interrupts runs in `ksoftirqd`, or in whatever thread is on the
//! core, and counts too.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;
use viaduct_tests::support::net::own_address;
use viaduct_tests::support::wire::{ROUTER, Wire};

use crate::subject::{GENERATOR_CORE, SERVER_CORE};

/// Where servers are started.
pub(crate) enum Place {
    /// All on loopback.
    Loopback,
    /// Servers at one end, this thread at the other.
    Veth(Wire),
}

impl Place {
    /// Lays the cable and makes its NAPI threads.
    pub(crate) fn veth() -> Result<Self> {
        let wire = match Wire::lay(1)? {
            Ok(wire) => wire,
            Err(reason) => bail!("--veth: {reason}"),
        };
        wire.in_router(|| make_threaded(ROUTER))??;
        // This thread is at the peers' end already, and must keep its own mounts.
        wire.at_peers(|| make_threaded(&wire.port()))??;
        Ok(Self::Veth(wire))
    }

    /// An address for one more server.
    pub(crate) fn server_address(&self) -> SocketAddr {
        static NEXT: AtomicU16 = AtomicU16::new(5060);
        match self {
            Self::Loopback => (own_address(), 5060).into(),
            Self::Veth(wire) => {
                let mut address = wire.router_v4();
                address.set_port(NEXT.fetch_add(2, Ordering::Relaxed));
                address
            }
        }
    }

    /// Starts something where the servers are.
    pub(crate) fn start<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self {
            Self::Loopback => work(),
            Self::Veth(wire) => wire.in_router(work)?,
        }
    }

    /// The kernel's threads that work for the servers, each on its core. Asked for before each
    /// measurement, as a program that is attached or detached may bring new ones.
    pub(crate) fn kernel_threads(&self) -> Result<Vec<u32>> {
        let Self::Veth(wire) = self else { return Ok(Vec::new()) };
        let (mine, mut servers) = (threads_of(&napi(&wire.port()))?, threads_of(&napi(ROUTER))?);
        ensure!(!servers.is_empty(), "no NAPI threads in /proc: their time cannot be counted");
        let core = SERVER_CORE.parse().context("SERVER_CORE")?;
        for (threads, core) in [(&mine, GENERATOR_CORE), (&servers, core)] {
            let mut set = CpuSet::new();
            set.set(core)?;
            for pid in threads {
                sched_setaffinity(Pid::from_raw(i32::try_from(*pid)?), &set)?;
            }
        }
        servers.extend(threads_of(&format!("ksoftirqd/{SERVER_CORE}"))?);
        Ok(servers)
    }
}

/// How late NAPI may hear of a packet, ns, as by the interrupt moderation of network cards. Without it
/// each packet of its own wakes a thread of another core, which costs more than most of what is measured.
const MODERATION_NS: &str = "50000";

/// Turns GRO on, without which veth has no NAPI, and gives NAPI threads of its own. Packets of a device
/// with TCP segmentation are past NAPI all the same, and what their receiver has to do for them would be
/// done by the sender; with an XDP program at the other end they are not. So nobody has it.
fn make_threaded(interface: &str) -> Result<()> {
    let output =
        Command::new("ethtool").args(["-K", interface, "gro", "on", "tso", "off"]).output();
    let output = output.context("ethtool is not installed")?;
    if !output.status.success() {
        bail!("ethtool -K {interface} gro on tso off: {}", String::from_utf8_lossy(&output.stderr));
    }
    // /sys shows the namespace it was mounted in; the mount is this thread's alone.
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).context("/sys")?;
    for (name, value) in
        [("threaded", "1"), ("napi_defer_hard_irqs", "1"), ("gro_flush_timeout", MODERATION_NS)]
    {
        let file = Path::new("/sys/class/net").join(interface).join(name);
        fs::write(&file, value).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

fn napi(interface: &str) -> String {
    format!("napi/{interface}-")
}

/// Kernel threads whose names begin so.
fn threads_of(start: &str) -> Result<Vec<u32>> {
    // The kernel cuts names to 15 characters.
    let start = start.get(..15).unwrap_or(start);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.starts_with(start) {
            found.push(pid);
        }
    }
    Ok(found)
}
