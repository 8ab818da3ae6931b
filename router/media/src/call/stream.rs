//! One `m=` of a call: ports at both sides, and one session for RTP and one for RTCP.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Order, Pools, Said, Settings, Side};
use crate::ports::{Layout, PortError, Ports};
use crate::sdp::{Direction, Media};
use crate::session::{Classes, Learn, Leg, LegFlags, Session};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    rtp: Option<SocketAddr>,
    rtcp: Option<SocketAddr>,
    payload_types: u128,
    clock_hz: u32,
    muxed: bool,
}

/// What whoever watches a stream needs to know.
#[derive(Clone, Copy, Debug)]
pub struct StreamFacts<'a> {
    /// `audio`, `video`...
    pub kind: &'a str,
    /// Our address for RTP at `A`; names the session.
    pub rtp: SocketAddr,
    /// That for RTCP.
    pub rtcp: SocketAddr,
    /// Nothing is to be expected of a side: it is on hold, or has no address.
    pub held: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stream {
    id: u64,
    ports: [Ports; 2],
    /// What peers are told our address is.
    shown: [IpAddr; 2],
    peers: [Peer; 2],
    /// What the executor was told of the peers when the windows were opened last.
    opened: Option<[Peer; 2]>,
    added: bool,
    directions: [Direction; 2],
    encrypted: bool,
    kind: Box<str>,
}

impl Stream {
    /// Takes ports at both sides. They are pairs, also where RTCP may share RTP's port in the end:
    /// the other side may not know how (RFC 5761 5.1.1).
    pub(super) fn new(id: u64, now_ms: u64, pools: &mut Pools<'_>) -> Result<Self, PortError> {
        let random = pools.random;
        pools.random =
            random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let pool = pools.of(Side::A)?;
        let (a, shown_a) = (pool.allocate(now_ms, Layout::Pair, random >> 16)?, pool.advertised());
        let next = pools.random >> 16;
        let taken = pools
            .of(Side::B)
            .and_then(|pool| Ok((pool.allocate(now_ms, Layout::Pair, next)?, pool.advertised())));
        let (b, shown_b) = taken.inspect_err(|_| pools.release(now_ms, a))?;
        Ok(Self {
            id,
            ports: [a, b],
            shown: [shown_a, shown_b],
            peers: [Peer::default(); 2],
            opened: None,
            added: false,
            directions: [Direction::SendRecv; 2],
            encrypted: false,
            kind: Box::default(),
        })
    }

    pub(super) fn release(&self, now_ms: u64, pools: &mut Pools<'_>) {
        for ports in self.ports {
            pools.release(now_ms, ports);
        }
    }

    pub(super) fn facts(&self) -> StreamFacts<'_> {
        let [Ports { rtp, rtcp }, _] = self.ports;
        let held = self.directions != [Direction::SendRecv; 2]
            || self.peers.iter().any(|peer| peer.rtp.is_none());
        StreamFacts { kind: &self.kind, rtp, rtcp, held }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.ports == other.ports
    }

    /// The router's ports for what `side` sends.
    pub(super) fn ports(&self, side: Side) -> Ports {
        let [a, b] = self.ports;
        if side == Side::A { a } else { b }
    }

    /// The same, and what peers are told our address is.
    pub(super) fn shown(&self, side: Side) -> (Ports, IpAddr) {
        let [a, b] = self.shown;
        (self.ports(side), if side == Side::A { a } else { b })
    }

    pub(super) fn describe(&mut self, media: &Media, said: &Said<'_>) {
        let side = said.from;
        let at = |peer: Option<SocketAddr>| {
            peer.map(|peer| SocketAddr::new(said.source.unwrap_or(peer.ip()), peer.port()))
        };
        // An address of the other family cannot be a peer of this leg.
        let fits = |peer: &SocketAddr| peer.is_ipv4() == self.ports(side).rtp.is_ipv4();
        let peer = Peer {
            rtp: at(media.peer()).filter(fits),
            rtcp: at(media.rtcp_peer()).filter(fits),
            payload_types: media.payload_types,
            clock_hz: media.clock_hz,
            muxed: media.rtcp_mux,
        };
        let place = self.peers.get_mut(side.index()).zip(self.directions.get_mut(side.index()));
        if let Some((place, direction)) = place {
            (*place, *direction) = (peer, media.direction);
        }
        self.encrypted = media.is_encrypted();
        self.kind = media.kind.as_str().into();
    }

    /// Both its sessions as they are known so far; nothing is learned yet.
    pub(super) fn additions(&mut self, settings: &Settings) -> Vec<Order> {
        if std::mem::replace(&mut self.added, true) {
            return Vec::new();
        }
        self.both(settings, |_| Learn::OFF).map(|session| Order::Add(Box::new(session))).into()
    }

    /// For RTP and for RTCP; `learn` for a leg with that signalled peer.
    fn both(
        &self,
        settings: &Settings,
        learn: impl Fn(Option<SocketAddr>) -> Learn,
    ) -> [Session; 2] {
        let sides = [Side::A, Side::B];
        let of = |side| self.peer(side).unwrap_or_default();
        let rtp = sides.map(|side| self.rtp_leg(settings, side, learn(of(side).rtp)));
        let rtcp = sides.map(|side| self.rtcp_leg(settings, side, learn(of(side).rtcp)));
        [(rtp, self.id), (rtcp, self.id.wrapping_add(1))].map(|(legs, id)| Session {
            id,
            idle_s: settings.idle_s,
            legs,
        })
    }

    /// Whether the executor knows it.
    pub(super) fn is_added(&self) -> bool {
        self.added
    }

    /// Its sessions as the executor was told of them last.
    pub(super) fn sessions(&self, settings: &Settings) -> [Session; 2] {
        match self.opened {
            Some(peers) => Self { peers, ..self.clone() }.both(settings, |p| learn(settings, p)),
            None => self.both(settings, |_| Learn::OFF),
        }
    }

    pub(super) fn removals(&self) -> [Order; 2] {
        [Order::Remove(self.ports[0].rtp), Order::Remove(self.ports[0].rtcp)]
    }

    /// Offer and answer are there: legs whose peer is new begin to learn. The others stay locked.
    pub(super) fn open(&mut self, settings: &Settings) -> Vec<Order> {
        let now = self.peers;
        let before = self.opened.replace(now);
        let mut orders = Vec::new();
        let changed: Vec<Side> = [Side::A, Side::B]
            .into_iter()
            .filter(|side| {
                before.and_then(|all| all.get(side.index()).copied()) != self.peer(*side)
            })
            .collect();
        if changed.is_empty() {
            return orders;
        }
        let of = |leg: &dyn Fn(Side) -> Leg| Order::Set(changed.iter().map(|s| leg(*s)).collect());
        orders.push(of(&|side| {
            let peer = self.peer(side).and_then(|peer| peer.rtp);
            self.rtp_leg(settings, side, learn(settings, peer))
        }));
        orders.push(of(&|side| {
            let peer = self.peer(side).and_then(|peer| peer.rtcp);
            self.rtcp_leg(settings, side, learn(settings, peer))
        }));
        orders
    }

    fn peer(&self, side: Side) -> Option<Peer> {
        self.peers.get(side.index()).copied()
    }

    fn rtp_leg(&self, settings: &Settings, side: Side, learn: Learn) -> Leg {
        let peer = self.peer(side).unwrap_or_default();
        let mut leg = self.leg(settings, self.ports(side).rtp, peer.rtp, learn);
        // Each side sends the other's types, and some send their own: both lists may pass.
        let both = self.peers.iter().fold(0, |all, peer| all | peer.payload_types);
        let answered = self.peers.iter().all(|peer| peer.payload_types != 0);
        if answered {
            leg.payload_types = both;
        }
        // What is sent is by preference the first that both know, which the answer names.
        leg.clock_hz = self.peers.iter().rev().map(|p| p.clock_hz).find(|c| *c != 0).unwrap_or(0);
        leg
    }

    fn rtcp_leg(&self, settings: &Settings, side: Side, learn: Learn) -> Leg {
        let peer = self.peer(side).unwrap_or_default();
        // Where both have agreed on one port, nothing is to come here.
        let muxed = self.peers.iter().all(|peer| peer.muxed);
        let learn = if muxed { Learn::OFF } else { learn };
        let mut leg = self.leg(settings, self.ports(side).rtcp, peer.rtcp, learn);
        leg.forward = if muxed { Classes::empty() } else { Classes::RTCP };
        leg
    }

    fn leg(
        &self,
        settings: &Settings,
        local: SocketAddr,
        peer: Option<SocketAddr>,
        learn: Learn,
    ) -> Leg {
        let mut leg = Leg::new(local, peer);
        leg.learn = learn;
        leg.flags.set(LegFlags::SRTP, self.encrypted);
        leg.flags.set(LegFlags::LOOPBACK, settings.loopback);
        leg.flags.set(LegFlags::HANDOVER, settings.handover);
        let audio = &*self.kind == "audio";
        leg.dscp = if audio { settings.dscp_audio } else { settings.dscp_video };
        leg
    }
}

/// Without an address to rank by, on hold, whoever comes would be believed.
fn learn(settings: &Settings, peer: Option<SocketAddr>) -> Learn {
    if peer.is_some() { settings.learn } else { Learn::OFF }
}
