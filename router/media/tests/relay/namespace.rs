//! Network namespaces: phones in `a` and `b`, the relay in `r` between them.

use std::fs::File;
use std::io::Write as _;
use std::process::{self, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sched::{CloneFlags, setns};
use viaduct_media::xdp::{Mode, Program};

/// How long devices may take to be up.
const PATIENCE: Duration = Duration::from_secs(30);

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
        Ok(Self { name })
    }

    /// Runs lines of `ip` inside, by one process: on an emulated machine each costs a second.
    pub(crate) fn ip(&self, lines: &str) -> Result<()> {
        let arguments = ["-n", self.name.as_str(), "-batch", "-"];
        let mut ip = Command::new("ip")
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("ip of iproute2")?;
        ip.stdin.take().context("no input")?.write_all(lines.as_bytes())?;
        finished(&arguments, &ip.wait_with_output()?)
    }

    /// Runs `ethtool` inside.
    pub(crate) fn ethtool(&self, words: &[&str]) -> Result<()> {
        self.enter(|| {
            let output = Command::new("ethtool").args(words).output().context("ethtool")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "ethtool {}: {said}", words.join(" "));
            Ok(())
        })
    }

    /// Waits until the kernel has noticed that these devices are up, which takes it up to a second
    /// while others come and go. Until then it drops what is sent.
    fn wait_for(&self, devices: &[&str]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.enter(|| {
            loop {
                let running: Vec<_> = getifaddrs()?
                    .filter(|one| one.flags.contains(InterfaceFlags::IFF_RUNNING))
                    .map(|one| one.interface_name)
                    .collect();
                if devices.iter().all(|name| running.iter().any(|one| one == name)) {
                    return Ok(());
                }
                ensure!(Instant::now() < deadline, "of {devices:?} only {running:?} run");
                thread::sleep(Duration::from_millis(2));
            }
        })
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
    finished(arguments, &Command::new("ip").args(arguments).output().context("ip of iproute2")?)
}

fn finished(arguments: &[&str], output: &Output) -> Result<()> {
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
        let mut relay = String::from("link set lo up\n");
        for (side, host, network) in [("a", &net.a, 1), ("b", &net.b, 2)] {
            relay.push_str(&relay_end(side, &host.name, network));
        }
        net.r.ip(&relay)?;
        net.a.ip(&host_end(1))?;
        net.b.ip(&host_end(2))?;
        net.a.wait_for(&["phone"])?;
        net.b.wait_for(&["phone"])?;
        net.r.wait_for(&["to-a", "to-b"])?;
        Ok(net)
    }

    /// Checksums are made by the phones' machines, as a wire would have them, and their ends of the
    /// cables take what a driver sends, if it is to be `native`. In `r` routes may be asked for.
    pub(crate) fn ready_for_xdp(&self, native: bool) -> Result<()> {
        let gro = if native { "on" } else { "off" };
        for host in [&self.a, &self.b] {
            host.ethtool(&["-K", "phone", "tx", "off", "gro", gro])?;
        }
        self.r.enter(|| {
            for family in ["ipv4", "ipv6"] {
                std::fs::write(format!("/proc/sys/net/{family}/conf/lo/forwarding"), "1")?;
            }
            Ok(())
        })
    }

    /// Puts the program in front of both networks; returns how it runs.
    pub(crate) fn attach(&self, program: &mut Program) -> Result<[Mode; 2]> {
        self.r.enter(|| {
            let mut attach = |n: u8, name: &str| -> Result<Mode> {
                let index = if_nametoindex(name)?;
                Ok(program.attach(index, [2, 0, 0, 0, n, 0xfe])?)
            };
            Ok([attach(1, "to-a")?, attach(2, "to-b")?])
        })
    }

    /// Takes it away from both.
    pub(crate) fn detach(&self, program: &mut Program) {
        let indices: Vec<u32> = program.served().map(|(index, _)| index).collect();
        indices.into_iter().for_each(|index| program.leave(index));
    }
}

/// Neighbours are known from the start: what waits for one to be resolved is not counted.
fn relay_end(side: &str, host: &str, n: u8) -> String {
    let known = |ip: String| {
        format!("neigh replace {ip} lladdr 02:00:00:00:0{n}:01 nud permanent dev to-{side}\n")
    };
    let neighbours: String = (1..=4).map(|last| known(format!("10.0.{n}.{last}"))).collect();
    let v6 = known(format!("fd00:{n}::1"));
    format!(
        "link add to-{side} type veth peer name phone netns {host}\n\
         link set to-{side} address 02:00:00:00:0{n}:fe up\n\
         address add 10.0.{n}.254/24 dev to-{side}\n\
         address add fd00:{n}::fe/64 dev to-{side} nodad\n\
         {neighbours}{v6}"
    )
}

fn host_end(n: u8) -> String {
    let addresses: String =
        (1..=4).map(|last| format!("address add 10.0.{n}.{last}/24 dev phone\n")).collect();
    let known = "lladdr 02:00:00:00:0";
    format!(
        "link set lo up\n\
         link set phone address 02:00:00:00:0{n}:01 up\n\
         {addresses}\
         address add fd00:{n}::1/64 dev phone nodad\n\
         neigh replace 10.0.{n}.254 {known}{n}:fe nud permanent dev phone\n\
         neigh replace fd00:{n}::fe {known}{n}:fe nud permanent dev phone\n\
         route add default via 10.0.{n}.254\n\
         route add default via fd00:{n}::fe\n"
    )
}
