//! Network namespaces: phones in `a` and `b`, the relay in `r` between them.

use std::fs::File;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};

/// A namespace that ends with this value.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    fn new(suffix: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vdm-{}-{number}-{suffix}", process::id());
        run(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend_from_slice(arguments);
        run(&all)
    }

    /// What `setns` takes.
    pub(crate) fn file(&self) -> Result<File> {
        Ok(File::open(format!("/run/netns/{}", self.name))?)
    }

    /// Runs `work` inside, on a thread of its own. Sockets made there stay there.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = self.file()?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(&["netns", "del", &self.name]) {
            println!("{error}");
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip of iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {said}", arguments.join(" "));
    Ok(())
}

/// The three namespaces. `None`: this machine has no way to make them.
pub(crate) struct Net {
    pub(crate) a: Namespace,
    pub(crate) b: Namespace,
    pub(crate) r: Namespace,
}

impl Net {
    /// `a` is 10.0.1.1 to .4 and fd00:1::1, `b` is 10.0.2.1 and fd00:2::1; `r` ends in 254 or fe in
    /// both networks.
    pub(crate) fn new() -> Result<Self> {
        let net =
            Self { a: Namespace::new("a")?, b: Namespace::new("b")?, r: Namespace::new("r")? };
        for (side, host, network) in [("a", &net.a, 1), ("b", &net.b, 2)] {
            let relay_end = format!("to-{side}");
            net.r.ip(&["link", "add", &relay_end, "type", "veth", "peer", "name", "phone"])?;
            net.r.ip(&["link", "set", "phone", "netns", &host.name])?;
            host.ip(&["link", "set", "phone", "up"])?;
            net.r.ip(&["link", "set", &relay_end, "up"])?;
            let v4 = |last: u8| format!("10.0.{network}.{last}/24");
            let v6 = |last: &str| format!("fd00:{network}::{last}/64");
            for last in 1..=4 {
                host.ip(&["address", "add", &v4(last), "dev", "phone"])?;
            }
            host.ip(&["address", "add", &v6("1"), "dev", "phone", "nodad"])?;
            net.r.ip(&["address", "add", &v4(254), "dev", &relay_end])?;
            net.r.ip(&["address", "add", &v6("fe"), "dev", &relay_end, "nodad"])?;
            // Neighbours are known from the start: what waits for one to be resolved is not counted.
            let (phone_mac, relay_mac) =
                (format!("02:00:00:00:0{network}:01"), format!("02:00:00:00:0{network}:fe"));
            host.ip(&["link", "set", "phone", "address", &phone_mac])?;
            net.r.ip(&["link", "set", &relay_end, "address", &relay_mac])?;
            let known = |at: &Namespace, ip: &str, mac: &str, device: &str| {
                at.ip(&["neigh", "replace", ip, "lladdr", mac, "nud", "permanent", "dev", device])
            };
            known(host, &format!("10.0.{network}.254"), &relay_mac, "phone")?;
            known(host, &format!("fd00:{network}::fe"), &relay_mac, "phone")?;
            for last in 1..=4 {
                known(&net.r, &format!("10.0.{network}.{last}"), &phone_mac, &relay_end)?;
            }
            known(&net.r, &format!("fd00:{network}::1"), &phone_mac, &relay_end)?;
            host.ip(&["route", "add", "default", "via", &format!("10.0.{network}.254")])?;
            host.ip(&["route", "add", "default", "via", &format!("fd00:{network}::fe")])?;
        }
        Ok(net)
    }
}
