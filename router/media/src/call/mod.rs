//! The media of one call: offers and answers in (RFC 3264), rewritten descriptions and orders for an
//! executor out. No socket, no clock; ports come from pools the caller owns.
//!
//! A leg's window to learn opens when the answer is there, not before: until then nobody has been
//! told where to send. It opens again only where signalling brings another address (R-M5).

mod stream;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use self::stream::Stream;
pub use self::stream::StreamFacts;
use crate::executor::{Executor, ExecutorError};
use crate::ports::{PortError, PortPool, Ports};
use crate::sdp::{At, Ice, Rewrite, Sdp, SdpError};
use crate::session::{Learn, Leg, Report, Session};

/// One of the two ends of a call. Whoever called is `A`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Who called.
    A,
    /// The other.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What is the same for all messages of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How legs learn once the answer is there.
    pub learn: Learn,
    /// A session is reported idle after so long; 0: never.
    pub idle_s: u32,
    /// DSCP of audio that is sent; `None`: as it came.
    pub dscp_audio: Option<u8>,
    /// DSCP of everything else.
    pub dscp_video: Option<u8>,
    /// Peers on loopback are allowed; for tests.
    pub loopback: bool,
    /// A peer may move once, if it goes on with its RTP stream.
    pub handover: bool,
}

/// How a description is shown to the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// What is done with ICE.
    pub ice: Ice,
    /// The address in `o=` is replaced too.
    pub origin: bool,
    /// The address in the description's own `c=` is replaced too.
    pub connection: bool,
    /// Our address as it is told, where it is not the pool's.
    pub address: Option<IpAddr>,
}

/// A description that came.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Who wrote it.
    pub from: Side,
    /// Its octets.
    pub text: &'a [u8],
    /// The address its SIP came from, where that counts instead of the one in the description, as
    /// behind a NAT.
    pub source: Option<IpAddr>,
    /// How it is shown.
    pub show: Show,
    /// It came in a message that settles the matter: a stream it refuses ends. False in provisional
    /// responses, since another branch may yet take it.
    pub settles: bool,
}

/// The ports of all addresses, which of them a call uses, and randomness to choose with.
#[derive(Debug)]
pub struct Pools<'a> {
    /// Of all addresses.
    pub all: &'a mut [PortPool],
    /// Which of them is for what `A` sends, and for what `B` sends.
    pub places: [usize; 2],
    /// Must be unpredictable to strangers.
    pub random: u64,
}

impl Pools<'_> {
    fn of(&mut self, side: Side) -> Result<&mut PortPool, PortError> {
        let [a, b] = self.places;
        self.all.get_mut(if side == Side::A { a } else { b }).ok_or(PortError::Range)
    }

    fn release(&mut self, now_ms: u64, ports: Ports) {
        if let Some(pool) = self.all.iter_mut().find(|pool| pool.owns(ports)) {
            pool.release(now_ms, ports);
        }
    }
}

/// Something to be carried out, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Add a session.
    Add(Box<Session>),
    /// Replace what is known of legs of one session.
    Set(Vec<Leg>),
    /// End the session with this leg.
    Remove(SocketAddr),
}

/// Carries orders out. What ended says how it stood.
///
/// # Errors
/// The first order that failed; those before it are done.
pub fn carry_out(
    executor: &mut dyn Executor,
    orders: &[Order],
) -> Result<Vec<Report>, ExecutorError> {
    let mut ended = Vec::new();
    for order in orders {
        match order {
            Order::Add(session) => executor.add(std::slice::from_ref(session.as_ref()))?,
            Order::Set(legs) => executor.set(legs)?,
            Order::Remove(local) => ended.push(executor.remove(*local)?),
        }
    }
    Ok(ended)
}

/// Why an offer or answer cannot be relayed. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The description is at fault: 488 for an offer.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// The router is short of ports: 503.
    #[error(transparent)]
    Ports(#[from] PortError),
    /// An answer without an offer, or from who made it.
    #[error("an answer to no offer")]
    NoOffer,
    /// An answer with another number of streams than its offer (RFC 3264 section 6).
    #[error("an answer with {answered} streams to an offer with {offered}")]
    Streams {
        /// In the offer.
        offered: usize,
        /// In the answer.
        answered: usize,
    },
}

/// A description to be passed on, and what is to be carried out before it is.
pub type Rewritten = (Vec<u8>, Vec<Order>);

/// The streams of a call by the place of their `m=`; `None` where one is not relayed.
type Streams = Vec<Option<Stream>>;

/// The media of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    id: u64,
    settings: Settings,
    streams: Streams,
    /// As they were before the offer that awaits its answer.
    before: Option<Streams>,
    /// Who made the last offer.
    offered_by: Option<Side>,
}

impl Call {
    /// `id` names its sessions: `id * 256` and on.
    #[must_use]
    pub fn new(id: u64, settings: Settings) -> Self {
        Self { id, settings, streams: Vec::new(), before: None, offered_by: None }
    }

    /// Who made the last offer.
    #[must_use]
    pub fn offered_by(&self) -> Option<Side> {
        self.offered_by
    }

    /// Whether an offer awaits its answer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.before.is_some()
    }

    /// Its streams that are relayed: their RTP ports at both sides.
    pub fn streams(&self) -> impl Iterator<Item = StreamFacts<'_>> {
        self.streams.iter().flatten().map(Stream::facts)
    }

    /// All it has ports for, also what an offer has taken away and may yet come back.
    fn held(&self) -> Vec<&Stream> {
        let mut held: Vec<&Stream> = Vec::new();
        for stream in self.streams.iter().chain(self.before.iter().flatten()).flatten() {
            if !held.iter().any(|known| known.is_same(stream)) {
                held.push(stream);
            }
        }
        held
    }

    /// The ports it has, both sides.
    pub fn ports(&self) -> impl Iterator<Item = Ports> {
        self.held().into_iter().flat_map(|stream| [Side::A, Side::B].map(|side| stream.ports(side)))
    }

    /// Its sessions as the executor has them, with the kind of their stream; those of RTCP have none.
    #[must_use]
    pub fn sessions(&self) -> Vec<(Option<Box<str>>, Session)> {
        let of = |stream: &Stream| {
            let [rtp, rtcp] = stream.sessions(&self.settings);
            [(Some(Box::from(stream.facts().kind)), rtp), (None, rtcp)]
        };
        self.held().into_iter().filter(|stream| stream.is_added()).flat_map(of).collect()
    }

    /// An offer, a first or a later one. Streams it ends go on until it is answered, since it may
    /// be refused.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn offer(
        &mut self,
        now_ms: u64,
        said: &Said<'_>,
        pools: &mut Pools<'_>,
    ) -> Result<Rewritten, CallError> {
        let sdp = Sdp::read(said.text)?;
        let mut made = Vec::new();
        let offered = self
            .offered_streams(now_ms, &sdp, said, (&mut *pools, &mut made))
            .and_then(|streams| Ok((rewrite(&sdp, &streams, said)?, streams)));
        match offered {
            Ok((text, streams)) => {
                if self.before.is_none() {
                    self.before = Some(self.streams.clone());
                }
                self.offered_by = Some(said.from);
                Ok((text, self.replace(now_ms, streams, pools)))
            }
            Err(error) => {
                made.iter().for_each(|stream: &Stream| stream.release(now_ms, pools));
                Err(error)
            }
        }
    }

    /// The streams as offered: known ones go on, new ones get ports and are noted in `made`.
    fn offered_streams(
        &self,
        now_ms: u64,
        sdp: &Sdp<'_>,
        said: &Said<'_>,
        (pools, made): (&mut Pools<'_>, &mut Vec<Stream>),
    ) -> Result<Streams, CallError> {
        let mut streams = Streams::new();
        for (place, media) in sdp.media.iter().enumerate() {
            if !media.is_relayable() {
                streams.push(None);
                continue;
            }
            let before = self.before.as_ref().and_then(|before| before.get(place));
            let known = self.streams.get(place).cloned().flatten();
            let mut stream = match known.or_else(|| before.cloned().flatten()) {
                Some(stream) => stream,
                None => {
                    let id = self.id.wrapping_mul(256).wrapping_add(place as u64 * 2);
                    let stream = Stream::new(id, now_ms, pools)?;
                    made.push(stream.clone());
                    stream
                }
            };
            stream.describe(media, said);
            streams.push(Some(stream));
        }
        Ok(streams)
    }

    /// The answer to the last offer; may come again, as in a 183 and the 200. One that fits no
    /// offer, but says again what was agreed, is passed on with our addresses.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn answer(
        &mut self,
        now_ms: u64,
        said: &Said<'_>,
        pools: &mut Pools<'_>,
    ) -> Result<Rewritten, CallError> {
        let offer_is_known = self.offered_by.is_some();
        if !offer_is_known {
            return Err(CallError::NoOffer);
        }
        let sdp = Sdp::read(said.text)?;
        let (offered, answered) = (self.streams.len(), sdp.media.len());
        if offered != answered {
            return Err(CallError::Streams { offered, answered });
        }
        let mut streams = self.streams.clone();
        if self.offered_by == Some(said.from) {
            return Ok((rewrite(&sdp, &streams, said)?, Vec::new()));
        }
        for (stream, media) in streams.iter_mut().zip(&sdp.media) {
            match stream {
                Some(stream) if media.is_relayable() => stream.describe(media, said),
                _ if said.settles => *stream = None,
                _ => {}
            }
        }
        let text = rewrite(&sdp, &streams, said)?;
        let mut orders = self.replace(now_ms, streams, pools);
        // What the offer has ended, ends now.
        let before = self.before.take().unwrap_or_default();
        orders.extend(self.remove_unused(now_ms, &before, pools));
        for stream in self.streams.iter_mut().flatten() {
            orders.extend(stream.open(&self.settings));
        }
        Ok((text, orders))
    }

    /// The offer was refused: all is as before it.
    pub fn refuse(&mut self, now_ms: u64, pools: &mut Pools<'_>) -> Vec<Order> {
        let Some(before) = self.before.take() else { return Vec::new() };
        self.replace(now_ms, before, pools)
    }

    /// The call is over, or was not answered.
    pub fn end(&mut self, now_ms: u64, pools: &mut Pools<'_>) -> Vec<Order> {
        self.offered_by = None;
        let before = self.before.take().unwrap_or_default();
        let mut orders = self.replace(now_ms, Vec::new(), pools);
        orders.extend(self.remove_unused(now_ms, &before, pools));
        orders
    }

    /// Takes `streams` for those there are: the orders to get there.
    fn replace(&mut self, now_ms: u64, streams: Streams, pools: &mut Pools<'_>) -> Vec<Order> {
        let old = std::mem::replace(&mut self.streams, streams);
        let mut orders = self.remove_unused(now_ms, &old, pools);
        for stream in self.streams.iter_mut().flatten() {
            orders.extend(stream.additions(&self.settings));
        }
        orders
    }

    /// Removes those of `old` that are neither in use nor may be again.
    fn remove_unused(
        &self,
        now_ms: u64,
        old: &[Option<Stream>],
        pools: &mut Pools<'_>,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        let kept = self.streams.iter().chain(self.before.iter().flatten()).flatten();
        let kept: Vec<&Stream> = kept.collect();
        for stream in old.iter().flatten() {
            if !kept.iter().any(|kept| kept.is_same(stream)) {
                orders.extend(stream.removals());
                stream.release(now_ms, pools);
            }
        }
        orders
    }
}

/// The description as the other side gets it.
fn rewrite(
    sdp: &Sdp<'_>,
    streams: &[Option<Stream>],
    said: &Said<'_>,
) -> Result<Vec<u8>, CallError> {
    let show = said.show;
    let local = |stream: &Stream| {
        let (ports, shown) = stream.shown(said.from.other());
        let ip = show.address.unwrap_or(shown);
        At {
            rtp: SocketAddr::new(ip, ports.rtp.port()),
            rtcp: SocketAddr::new(ip, ports.rtcp.port()),
        }
    };
    let at: Vec<Option<At>> = streams.iter().map(|stream| stream.as_ref().map(local)).collect();
    let ours = at.iter().flatten().next().map(|at| at.rtp.ip());
    let rewrite = Rewrite {
        at: &at,
        ice: show.ice,
        origin: ours.filter(|_| show.origin),
        connection: ours.filter(|_| show.connection),
    };
    Ok(sdp.rewrite(&rewrite)?)
}

#[cfg(test)]
mod tests;
