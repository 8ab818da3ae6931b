//! The first step of the way to a peer, by the kernel's own routes and neighbours.
//!
//! [`Network`] is what all workers share: the neighbour table, kept current by notifications that
//! [`Watcher`] reads on a thread of its own, and two counts of changes. Each worker's [`Hops`] asks
//! the kernel for the route to a peer once, and remembers the answer until routes change.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use parking_lot::RwLock;

use super::netlink::Netlink;
use super::packet::{Hop, Mac};

/// Peers a worker remembers the way to; beyond, it forgets all and asks again.
const MOST_WAYS: usize = 65_536;
/// Neighbours kept; the kernel's own bound (gc_thresh3) is 1,024 unless somebody raised it.
const MOST_NEIGHBOURS: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbour {
    mac: Mac,
    /// Not confirmed for a while: the kernel asks the neighbour again when it sends to it.
    is_stale: bool,
}

/// What the workers share.
#[derive(Default)]
pub struct Network {
    neighbours: RwLock<HashMap<(u32, IpAddr), Neighbour>>,
    /// Changes of the neighbour table so far.
    neighbour_changes: AtomicU64,
    /// Changes of routes, rules, addresses and links so far.
    route_changes: AtomicU64,
}

impl Network {
    /// Has workers ask for their routes again. The kernel tells nobody when it has learned that a
    /// path takes only shorter packets, so somebody calls this from time to time.
    pub fn forget_routes(&self) {
        self.route_changes.fetch_add(1, Ordering::Release);
    }

    /// Neighbours that are known.
    pub fn neighbours(&self) -> usize {
        self.neighbours.read().len()
    }

    fn learn(&self, message: &NeighbourMessage, is_gone: bool) {
        let (mut ip, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    ip = Some(IpAddr::V4(*v4));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    ip = Some(IpAddr::V6(*v6));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = Mac::try_from(bytes.as_slice()).ok();
                }
                _ => {}
            }
        }
        let Some(ip) = ip else { return };
        let key = (message.header.ifindex, ip);
        let state = message.header.state;
        let is_usable = !is_gone
            && matches!(
                state,
                NeighbourState::Reachable
                    | NeighbourState::Stale
                    | NeighbourState::Delay
                    | NeighbourState::Probe
                    | NeighbourState::Noarp
                    | NeighbourState::Permanent
            );
        let is_stale = state == NeighbourState::Stale;
        let new = mac.filter(|_| is_usable).map(|mac| Neighbour { mac, is_stale });
        let mut table = self.neighbours.write();
        let old = match new {
            Some(_) if table.len() >= MOST_NEIGHBOURS && !table.contains_key(&key) => return,
            Some(new) => table.insert(key, new),
            None => table.remove(&key),
        };
        drop(table);
        if old != new {
            self.neighbour_changes.fetch_add(1, Ordering::Release);
        }
    }
}

/// What notifications have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Links or addresses have changed.
    pub interfaces: bool,
}

/// Keeps a [`Network`] current.
pub struct Watcher {
    events: Netlink,
    network: Arc<Network>,
}

impl Watcher {
    /// Subscribes, then reads the whole neighbour table.
    pub fn open() -> io::Result<Watcher> {
        let watcher = Watcher { events: Netlink::subscribe()?, network: Arc::default() };
        watcher.reread()?;
        Ok(watcher)
    }

    /// What is kept current.
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Takes what the kernel has told since the last call; never blocks.
    pub fn turn(&mut self) -> io::Result<News> {
        let mut news = News::default();
        let network = &self.network;
        let read = self.events.notifications(&mut |message| match message {
            Message::NewNeighbour(neighbour) => network.learn(&neighbour, false),
            Message::DelNeighbour(neighbour) => network.learn(&neighbour, true),
            Message::NewRoute(_)
            | Message::DelRoute(_)
            | Message::NewRule(_)
            | Message::DelRule(_) => network.forget_routes(),
            Message::NewLink(_)
            | Message::DelLink(_)
            | Message::NewAddress(_)
            | Message::DelAddress(_) => {
                network.forget_routes();
                news.interfaces = true;
            }
            _ => {}
        });
        if let Err(error) = read {
            // Some were lost: the kernel had more to say than the socket could hold.
            tracing::debug!(%error, "netlink notifications lost; reading everything again");
            self.network.neighbours.write().clear();
            self.network.neighbour_changes.fetch_add(1, Ordering::Release);
            self.network.forget_routes();
            self.reread()?;
            news.interfaces = true;
        }
        Ok(news)
    }

    fn reread(&self) -> io::Result<()> {
        let question = Message::GetNeighbour(NeighbourMessage::default());
        Netlink::open()?.dump(question, &mut |message| {
            if let Message::NewNeighbour(neighbour) = message {
                self.network.learn(&neighbour, false);
            }
        })
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.events.fd()
    }
}

/// A way out of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// The kernel's number of the interface a route names: of a VLAN, the VLAN's own.
    pub(super) index: u32,
    /// Which of the served interfaces it leaves by.
    pub(super) slot: usize,
    pub(super) vlan: u16,
    pub(super) mac: Mac,
    pub(super) mtu: usize,
}

#[derive(Clone, Copy)]
struct Route {
    exit: Exit,
    next: IpAddr,
    mtu: usize,
}

/// One worker's ways.
pub(super) struct Hops {
    network: Arc<Network>,
    netlink: Netlink,
    exits: Vec<Exit>,
    routes: HashMap<(IpAddr, IpAddr), Option<Route>>,
    ways: HashMap<(IpAddr, IpAddr), (usize, Hop)>,
    seen_neighbours: u64,
    seen_routes: u64,
}

impl Hops {
    pub(super) fn new(network: Arc<Network>, exits: Vec<Exit>) -> io::Result<Hops> {
        Ok(Hops {
            network,
            netlink: Netlink::open()?,
            exits,
            routes: HashMap::new(),
            ways: HashMap::new(),
            seen_neighbours: 0,
            seen_routes: 0,
        })
    }

    /// Peers whose way is known.
    pub(super) fn len(&self) -> usize {
        self.ways.len()
    }

    /// The interface (a slot) and the first hop for packets from `local` to `remote`; `None`: the
    /// kernel is to send this one. It is also to send the first one after a neighbour has become
    /// stale, because that makes it ask whether the neighbour is still there.
    pub(super) fn find(&mut self, local: IpAddr, remote: IpAddr) -> Option<(usize, Hop)> {
        self.take_news();
        if let Some(way) = self.ways.get(&(local, remote)) {
            return Some(*way);
        }
        let route = self.route(local, remote)?;
        let neighbour = {
            let table = self.network.neighbours.read();
            *table.get(&(route.exit.index, route.next))?
        };
        let hop = Hop {
            source_mac: route.exit.mac,
            target_mac: neighbour.mac,
            vlan: route.exit.vlan,
            mtu: route.mtu,
        };
        if self.ways.len() >= MOST_WAYS {
            self.ways.clear();
        }
        self.ways.insert((local, remote), (route.exit.slot, hop));
        (!neighbour.is_stale).then_some((route.exit.slot, hop))
    }

    fn take_news(&mut self) {
        let neighbours = self.network.neighbour_changes.load(Ordering::Acquire);
        let routes = self.network.route_changes.load(Ordering::Acquire);
        if routes != self.seen_routes {
            self.seen_routes = routes;
            self.routes.clear();
            self.ways.clear();
        }
        if neighbours != self.seen_neighbours {
            self.seen_neighbours = neighbours;
            self.ways.clear();
        }
    }

    fn route(&mut self, local: IpAddr, remote: IpAddr) -> Option<Route> {
        if let Some(route) = self.routes.get(&(local, remote)) {
            return *route;
        }
        let route = match self.netlink.ask(question(local, remote)) {
            Ok(Message::NewRoute(answer)) => read_route(&answer, &self.exits, remote),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%local, %remote, %error, "no route");
                None
            }
        };
        if self.routes.len() >= MOST_WAYS {
            self.routes.clear();
        }
        self.routes.insert((local, remote), route);
        route
    }
}

fn question(local: IpAddr, remote: IpAddr) -> Message {
    let mut message = RouteMessage::default();
    let (family, bits) = match remote {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.header.source_prefix_length = bits;
    message.attributes.push(RouteAttribute::Destination(remote.into()));
    message.attributes.push(RouteAttribute::Source(local.into()));
    Message::GetRoute(message)
}

fn read_route(message: &RouteMessage, exits: &[Exit], remote: IpAddr) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut index, mut next, mut mtu) = (None, remote, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => next = IpAddr::V4(*ip),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => next = IpAddr::V6(*ip),
            // A next hop of the other family; rare enough for the kernel.
            RouteAttribute::Via(_) | RouteAttribute::Encap(_) => return None,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => usize::try_from(*mtu).ok(),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let exit = exits.iter().find(|exit| Some(exit.index) == index)?;
    Some(Route { exit: *exit, next, mtu: mtu.map_or(exit.mtu, |mtu| mtu.min(exit.mtu)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Exit = Exit { index: 7, slot: 0, vlan: 0, mac: [2; 6], mtu: 1500 };

    fn answer(attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_route_says_interface_gateway_and_the_shorter_mtu() {
        let remote: IpAddr = "198.51.100.1".parse().unwrap();
        let gateway: IpAddr = "192.0.2.254".parse().unwrap();
        let message = answer(vec![
            RouteAttribute::Oif(7),
            RouteAttribute::Gateway(gateway.into()),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]),
        ]);
        let route = read_route(&message, &[EXIT], remote).unwrap();
        assert_eq!((route.next, route.mtu, route.exit), (gateway, 1400, EXIT));
        let direct = answer(vec![RouteAttribute::Oif(7)]);
        let route = read_route(&direct, &[EXIT], remote).unwrap();
        assert_eq!((route.next, route.mtu), (remote, 1500));
    }

    #[test]
    fn what_does_not_leave_by_our_interfaces_is_the_kernels() {
        let remote: IpAddr = "198.51.100.1".parse().unwrap();
        assert!(read_route(&answer(vec![RouteAttribute::Oif(8)]), &[EXIT], remote).is_none());
        let mut local = answer(vec![RouteAttribute::Oif(7)]);
        local.header.kind = RouteType::Local;
        assert!(read_route(&local, &[EXIT], remote).is_none());
    }

    #[test]
    fn neighbours_come_go_stale_and_vanish() {
        let network = Network::default();
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        let told = |state| {
            let mut message = NeighbourMessage::default();
            message.header.ifindex = 7;
            message.header.state = state;
            message.attributes = vec![
                NeighbourAttribute::Destination(NeighbourAddress::Inet([192, 0, 2, 7].into())),
                NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 7]),
            ];
            message
        };
        let mac = [2, 0, 0, 0, 0, 7];
        let known = || network.neighbours.read().get(&(7, ip)).copied();
        network.learn(&told(NeighbourState::Incomplete), false);
        assert_eq!(known(), None);
        network.learn(&told(NeighbourState::Reachable), false);
        assert_eq!(known(), Some(Neighbour { mac, is_stale: false }));
        network.learn(&told(NeighbourState::Stale), false);
        assert_eq!(known(), Some(Neighbour { mac, is_stale: true }));
        let changes = network.neighbour_changes.load(Ordering::Acquire);
        network.learn(&told(NeighbourState::Stale), false);
        assert_eq!(network.neighbour_changes.load(Ordering::Acquire), changes, "no news");
        network.learn(&told(NeighbourState::Failed), false);
        assert_eq!(known(), None);
    }
}
