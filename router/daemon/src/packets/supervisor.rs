//! The thread that opens, watches and reopens.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;
use viaduct_engine::Network;
use viaduct_transport::xdp::{
    Attachment, Interface, Plan, Rung, Watcher, WorkerPorts, XdpPorts, interfaces,
};

use super::bans::Bans;
use super::media::MediaSites;
use super::{Order, Tables, View, is_moot};
use crate::config::{Config, PacketsConfig, XdpWish};
use crate::control::BanEntry;
use crate::worker::mail::{Address, Mail};

pub(super) const WAKE: Token = Token(0);
const NEWS: Token = Token(1);
/// How often everything is looked at without a notification: the kernel tells nobody when a program
/// is detached.
const LOOK: Duration = Duration::from_secs(1);
/// Wait after a refusal; doubled up to the longest each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How often workers ask again for routes: what the kernel learns of narrow paths it tells nobody.
const ROUTES_AGE: Duration = Duration::from_secs(30);

/// An interface that listeners are on, by its name: its number changes when it comes back.
struct Site {
    name: String,
    wishes: Vec<(SocketAddr, XdpWish)>,
    open: Option<Attachment>,
    /// Set by a worker whose device refuses to send.
    failed: Arc<AtomicBool>,
    /// Why it is not open.
    reason: String,
    retry: Duration,
    not_before: Instant,
}

pub(super) struct Supervisor {
    config: PacketsConfig,
    trusted: Vec<Network>,
    workers: Vec<Address>,
    poll: Poll,
    orders: Receiver<Order>,
    watcher: Watcher,
    sites: Vec<Site>,
    /// Wishes for addresses that no interface has had yet.
    homeless: Vec<(SocketAddr, XdpWish)>,
    bans: Bans,
    media: Option<MediaSites>,
    view: Arc<Mutex<View>>,
    /// Verdicts of programs that are gone.
    before: Vec<(&'static str, u64)>,
    routes_asked: Instant,
}

impl Supervisor {
    pub(super) fn new(
        config: &Config,
        workers: Vec<Address>,
        poll: Poll,
        orders: Receiver<Order>,
        view: Arc<Mutex<View>>,
    ) -> std::io::Result<Supervisor> {
        let watcher = Watcher::open()?;
        let fd = watcher.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), NEWS, Interest::READABLE)?;
        let wishes = config.packets.wishes.iter();
        let homeless = wishes.filter(|(addr, wish)| !is_moot(addr.ip(), *wish)).copied().collect();
        let now = Instant::now();
        Ok(Supervisor {
            bans: Bans::new(config.packets.ban_after, now),
            media: None,
            config: config.packets.clone(),
            trusted: config.trusted.clone(),
            workers,
            poll,
            orders,
            watcher,
            sites: Vec::new(),
            homeless,
            view,
            before: Vec::new(),
            routes_asked: now,
        })
    }

    /// Has the media relay's program in front of its interfaces, too.
    pub(super) fn relay_media(
        &mut self,
        config: &Config,
        program: Option<viaduct_media::xdp::Program>,
    ) {
        self.media = program.zip(config.media.as_ref()).and_then(|(program, media)| {
            let addrs = media.service.interfaces.iter().map(|interface| interface.ip).collect();
            let steering = &media.steering;
            MediaSites::new(program, addrs, steering.before_stack.then(|| steering.cpus()))
        });
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(8);
        loop {
            if let Err(error) = self.poll.poll(&mut events, Some(LOOK))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(target: "viaduct::packets", %error, "cannot wait");
                return;
            }
            if let Err(error) = self.watcher.turn() {
                tracing::warn!(target: "viaduct::packets", %error, "no news of neighbours");
            }
            if !self.take_orders() {
                break;
            }
            if self.routes_asked.elapsed() >= ROUTES_AGE {
                self.routes_asked = Instant::now();
                self.watcher.network().forget_routes();
            }
            self.look();
        }
        for index in 0..self.sites.len() {
            self.close(index, "stopped");
        }
    }

    /// Compares what is with what is wished, and changes what can be changed. Returns what listeners
    /// require and do not have.
    pub(super) fn look(&mut self) -> Vec<String> {
        let now = match interfaces() {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(target: "viaduct::packets", %error, "interfaces cannot be read");
                return Vec::new();
            }
        };
        self.house(&now);
        for index in 0..self.sites.len() {
            let Some(site) = self.sites.get(index) else { continue };
            let fault = match &site.open {
                Some(_) if site.failed.load(Ordering::Relaxed) => {
                    Some("the device cannot send".to_owned())
                }
                Some(open) => self.fault(site, open, &now),
                None => None,
            };
            if let Some(fault) = fault {
                self.close(index, &fault);
            }
            self.open(index, &now);
        }
        if let Some(media) = &mut self.media {
            let open = self.sites.iter_mut().filter_map(|site| site.open.as_mut());
            media.look(&now, &mut open.collect::<Vec<_>>());
            media.ask();
        }
        self.show();
        let missing = self.sites.iter().filter(|site| site.open.is_none());
        let lacks = missing.flat_map(|site| {
            let required = site.wishes.iter().filter(|(_, wish)| *wish == XdpWish::Required);
            required.map(move |(addr, _)| (*addr, site.reason.clone()))
        });
        let homeless = self.homeless.iter().filter(|(_, wish)| *wish == XdpWish::Required);
        let homeless = homeless.map(|(addr, _)| (*addr, "no interface has it".to_owned()));
        let say = |(addr, reason): (SocketAddr, String)| {
            format!("listener {addr} requires AF_XDP: {reason}")
        };
        lacks.chain(homeless).map(say).collect()
    }

    /// Finds the interface of each wish that has none yet.
    fn house(&mut self, now: &[Interface]) {
        let sites = &mut self.sites;
        self.homeless.retain(|(addr, wish)| {
            let Some(found) = now.iter().find(|i| i.addrs.contains(&addr.ip())) else {
                return true;
            };
            let under = found.vlan_of.and_then(|(index, _)| now.iter().find(|i| i.index == index));
            let name = &under.unwrap_or(found).name;
            match sites.iter_mut().find(|site| site.name == *name) {
                Some(site) => site.wishes.push((*addr, *wish)),
                None => sites.push(Site {
                    name: name.clone(),
                    wishes: vec![(*addr, *wish)],
                    open: None,
                    failed: Arc::default(),
                    reason: String::new(),
                    retry: FIRST_RETRY,
                    not_before: Instant::now(),
                }),
            }
            false
        });
    }

    /// Why what is open has to be closed, perhaps only to be opened for what is there now.
    fn fault(&self, site: &Site, open: &Attachment, now: &[Interface]) -> Option<String> {
        if let Some(fault) = open.fault(now) {
            return Some(fault.to_owned());
        }
        match plan(site, now, &self.config, self.workers.len()) {
            Ok(plan) if open.plan().does_for(&plan) => None,
            Ok(_) => Some("its addresses or VLANs have changed".to_owned()),
            Err(reason) => Some(reason),
        }
    }

    fn open(&mut self, index: usize, now: &[Interface]) {
        let Some(site) = self.sites.get_mut(index) else { return };
        if site.open.is_some() || Instant::now() < site.not_before {
            return;
        }
        let plan = match plan(site, now, &self.config, self.workers.len()) {
            Ok(plan) => plan,
            Err(reason) => {
                site.reason = reason;
                return;
            }
        };
        if let Some(media) = &mut self.media {
            media.make_room(plan.interface.index);
        }
        let (opened, refusals) = Attachment::open(&plan, &Rung::ALL);
        for refusal in &refusals {
            let (rung, reason) = (refusal.rung, &refusal.reason);
            tracing::info!(target: "viaduct::packets", interface = site.name, %rung, reason,
                "not available");
        }
        let Some((attachment, ports)) = opened else {
            site.reason = refusals.last().map(|last| last.reason.clone()).unwrap_or_default();
            site.not_before = Instant::now().checked_add(site.retry).unwrap_or(site.not_before);
            site.retry = site.retry.saturating_mul(2).min(LONGEST_RETRY);
            return;
        };
        let (rung, queues) = (attachment.rung(), attachment.queues());
        let interface = site.name.clone();
        site.failed = Arc::default();
        (site.retry, site.not_before) = (FIRST_RETRY, Instant::now());
        site.open = Some(attachment);
        self.hand_out(index, ports);
        self.ban_again(index);
        self.show();
        tracing::info!(target: "viaduct::packets", interface, %rung, queues, "open");
    }

    fn hand_out(&mut self, slot: usize, ports: Vec<WorkerPorts>) {
        let Some(site) = self.sites.get(slot) else { return };
        for ((index, worker), ports) in (0u8..).zip(&self.workers).zip(ports) {
            let network = Arc::clone(self.watcher.network());
            match XdpPorts::new(index, vec![ports], network) {
                Ok(ports) => {
                    let failed = Arc::clone(&site.failed);
                    worker
                        .post_surely(Mail::Ports { slot, ports: Some((Box::new(ports), failed)) });
                }
                Err(error) => {
                    tracing::warn!(target: "viaduct::packets", %error, "no ports for a worker");
                    site.failed.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn close(&mut self, index: usize, reason: &str) {
        let Some(site) = self.sites.get_mut(index) else { return };
        let Some(attachment) = site.open.take() else { return };
        reason.clone_into(&mut site.reason);
        add_up(&mut self.before, &attachment);
        // The program first: from then on packets go up the stack, and what was in the sockets
        // before is read by the workers when they get the mail.
        drop(attachment);
        for worker in &self.workers {
            worker.post_surely(Mail::Ports { slot: index, ports: None });
        }
        let interface = site.name.clone();
        self.show();
        tracing::warn!(target: "viaduct::packets", interface, reason,
            "closed; kernel sockets serve");
    }

    fn show(&self) {
        let mut verdicts = self.before.clone();
        let open = self.sites.iter().filter_map(|site| site.open.as_ref());
        open.for_each(|open| add_up(&mut verdicts, open));
        verdicts.extend(self.media.iter().flat_map(MediaSites::outcomes));
        let (bans, offenders) = self.bans.len();
        let neighbours = self.watcher.network().neighbours();
        let tables = Tables { bans, offenders, neighbours, dropped: 0 };
        *self.view.lock() = View { words: self.describe(), verdicts, tables };
    }

    fn describe(&self) -> String {
        let each = self.sites.iter().map(|site| match &site.open {
            Some(open) => {
                let plural = if open.queues() == 1 { "" } else { "s" };
                format!("{} on {}, {} queue{plural}", open.rung(), site.name, open.queues())
            }
            None => format!("kernel sockets on {} ({})", site.name, site.reason),
        });
        let words: Vec<String> = each.chain(self.media.iter().map(MediaSites::words)).collect();
        if words.is_empty() { "kernel sockets".to_owned() } else { words.join("; ") }
    }

    /// False: it is over.
    fn take_orders(&mut self) -> bool {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Ban { source, seconds, answer } => {
                    let _ = answer.send(self.ban(source, seconds));
                }
                Order::Unban { source, answer } => {
                    let _ = answer.send(self.unban(source));
                }
                Order::Bans { answer } => {
                    let bans = self.bans.iter(Instant::now());
                    let _ = answer.send(bans.map(entry).collect());
                }
                Order::Offence { source } => self.offence(source),
                Order::Stop => return false,
            }
        }
        true
    }

    fn offence(&mut self, source: IpAddr) {
        if self.trusted.iter().any(|network| network.contains(source))
            || !self.bans.offence(source, Instant::now())
        {
            return;
        }
        let seconds = self.config.ban_s;
        match self.ban(source, seconds) {
            Ok(()) => {
                tracing::info!(target: "viaduct::security", "banned source={source} s={seconds}");
            }
            Err(error) => tracing::warn!(target: "viaduct::packets", %source, error, "not banned"),
        }
    }

    fn ban(&mut self, source: IpAddr, seconds: u64) -> Result<(), String> {
        let now = Instant::now();
        let until = now.checked_add(Duration::from_secs(seconds));
        let until = until.ok_or("that is beyond the end of time")?;
        if !self.bans.add(source, until, now) {
            return Err(format!("there are {} bans already", super::bans::MOST_BANS));
        }
        let until_ns = in_kernel_ns(seconds);
        for open in self.sites.iter_mut().filter_map(|site| site.open.as_mut()) {
            open.ban(source, until_ns).map_err(|fault| fault.to_string())?;
        }
        Ok(())
    }

    fn unban(&mut self, source: IpAddr) -> Result<bool, String> {
        let was = self.bans.remove(source, Instant::now());
        for open in self.sites.iter_mut().filter_map(|site| site.open.as_mut()) {
            open.unban(source).map_err(|fault| fault.to_string())?;
        }
        Ok(was)
    }

    /// A new program knows no bans yet.
    fn ban_again(&mut self, index: usize) {
        let Some(open) = self.sites.get_mut(index).and_then(|site| site.open.as_mut()) else {
            return;
        };
        for (source, left) in self.bans.iter(Instant::now()) {
            if let Err(fault) = open.ban(source, in_kernel_ns(left.as_secs().max(1))) {
                tracing::warn!(target: "viaduct::packets", %source, %fault, "not banned");
            }
        }
    }
}

fn add_up(sums: &mut Vec<(&'static str, u64)>, open: &Attachment) {
    for (verdict, count) in open.verdicts().unwrap_or_default() {
        match sums.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, sum)) => *sum = sum.wrapping_add(count),
            None => sums.push((verdict, count)),
        }
    }
}

fn entry((source, left): (IpAddr, Duration)) -> BanEntry {
    BanEntry { source: source.to_string(), seconds: left.as_secs().max(1) }
}

/// A moment on the clock that `bpf_ktime_get_ns` reads.
fn in_kernel_ns(seconds: u64) -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let now = now.map_or(Duration::ZERO, Duration::from);
    let until = now.saturating_add(Duration::from_secs(seconds));
    u64::try_from(until.as_nanos()).unwrap_or(u64::MAX)
}

/// What is wanted of a site now; the error says why nothing can be had.
fn plan(
    site: &Site,
    now: &[Interface],
    config: &PacketsConfig,
    workers: usize,
) -> Result<Plan, String> {
    let interface = now.iter().find(|interface| interface.name == site.name);
    let interface = interface.ok_or("the interface is gone")?;
    if interface.is_loopback {
        return Err("loopback has no way past the stack".to_owned());
    }
    if !interface.is_up {
        return Err("the link is down".to_owned());
    }
    if interface.mac == [0; 6] {
        return Err("the interface is no Ethernet".to_owned());
    }
    let vlans: Vec<(Interface, u16)> = now
        .iter()
        .filter_map(|i| i.vlan_of.filter(|(under, _)| *under == interface.index).zip(Some(i)))
        .map(|((_, vlan), i)| (i.clone(), vlan))
        .collect();
    let (mut listeners, mut silent) = (Vec::new(), None);
    for (addr, _) in &site.wishes {
        if interface.addrs.contains(&addr.ip()) {
            listeners.push((*addr, 0));
        }
        for (i, vlan) in vlans.iter().filter(|(i, _)| i.addrs.contains(&addr.ip())) {
            // A VLAN that is down is to be silent, whatever still comes on the interface under it.
            if !i.is_up {
                silent = Some(format!("VLAN {vlan} is down"));
            } else if interface.takes_tags_off {
                let cure = format!("ethtool -K {} rxvlan off", interface.name);
                silent = Some(format!("the card takes the tag of VLAN {vlan} off: {cure}"));
            } else {
                listeners.push((*addr, *vlan));
            }
        }
    }
    if listeners.is_empty() {
        let lost = || "the interface has lost its addresses".to_owned();
        return Err(silent.unwrap_or_else(lost));
    }
    Ok(Plan {
        interface: interface.clone(),
        listeners,
        vlans,
        workers: u8::try_from(workers).unwrap_or(u8::MAX),
        frames: config.frames,
        rate: (config.source_rate, config.source_burst),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDR: &str = "192.0.2.1:5060";

    fn interface(index: u32, vlan: Option<u16>, addrs: &[&str]) -> Interface {
        Interface {
            name: format!("eth{index}"),
            index,
            mac: [2; 6],
            mtu: 1500,
            is_up: true,
            queues: 1,
            vlan_of: vlan.map(|vlan| (1, vlan)),
            addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
            ..Interface::default()
        }
    }

    /// Listeners with their VLANs, for one wish.
    fn planned(now: &[Interface]) -> Result<Vec<(SocketAddr, u16)>, String> {
        let wishes = vec![(ADDR.parse().unwrap(), XdpWish::Required)];
        let site = Site {
            name: "eth1".to_owned(),
            wishes: wishes.clone(),
            open: None,
            failed: Arc::default(),
            reason: String::new(),
            retry: FIRST_RETRY,
            not_before: Instant::now(),
        };
        let config = PacketsConfig {
            wishes,
            frames: 512,
            source_rate: 0,
            source_burst: 1,
            ban_after: 0,
            ban_s: 60,
        };
        plan(&site, now, &config, 1).map(|plan| plan.listeners)
    }

    #[test]
    fn an_address_of_a_vlan_is_taken_with_its_tag_from_the_interface_under_it() {
        let addr: SocketAddr = ADDR.parse().unwrap();
        let under = interface(1, None, &[]);
        let vlan = interface(2, Some(100), &["192.0.2.1"]);
        let other = interface(3, Some(200), &["192.0.2.9"]);
        assert_eq!(planned(&[under.clone(), vlan.clone(), other]), Ok(vec![(addr, 100)]));
        let untagged = interface(1, None, &["192.0.2.1"]);
        assert_eq!(planned(&[untagged]), Ok(vec![(addr, 0)]));

        let down = Interface { is_up: false, ..vlan.clone() };
        assert_eq!(planned(&[under.clone(), down]), Err("VLAN 100 is down".to_owned()));
        let hiding = Interface { takes_tags_off: true, ..under.clone() };
        let cure = "the card takes the tag of VLAN 100 off: ethtool -K eth1 rxvlan off";
        assert_eq!(planned(&[hiding.clone(), vlan]), Err(cure.to_owned()));
        let own = Interface { addrs: vec!["192.0.2.1".parse().unwrap()], ..hiding };
        assert_eq!(planned(&[own]), Ok(vec![(addr, 0)]), "frames without a tag are as they were");
        let lost = Err("the interface has lost its addresses".to_owned());
        assert_eq!(planned(&[under]), lost);
    }
}
