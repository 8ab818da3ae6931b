//! The media of one call: offers and answers in (RFC 3264), rewritten descriptions and orders for an
//! executor out. No socket, no clock; ports come from pools the caller owns.
//!
//! A leg's window to learn opens when the answer is there, not before: until then nobody has been
//! told where to send. It opens again only where signalling brings another address (R-M5).

mod stream;

use std::net::{IpAddr, SocketAddr};

use self::stream::{MediaOf, Stream};
use crate::executor::{Executor, ExecutorError};
use crate::ports::{PortError, PortPool};
use crate::sdp::{At, Ice, Rewrite, Sdp, SdpError};
use crate::session::{Learn, Leg, Report, Session};

/// One of the two ends of a call. Whoever made the first offer is `A`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The first to offer.
    A,
    /// The other.
    B,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What is the same for all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// What is done with ICE.
    pub ice: Ice,
    /// The address in `o=` is replaced too.
    pub replace_origin: bool,
}

/// The ports of both sides, and randomness to choose with.
#[derive(Debug)]
pub struct Pools<'a> {
    /// For what `A` sends.
    pub a: &'a mut PortPool,
    /// For what `B` sends.
    pub b: &'a mut PortPool,
    /// Must be unpredictable to strangers.
    pub random: u64,
}

impl Pools<'_> {
    fn of(&mut self, side: Side) -> &mut PortPool {
        match side {
            Side::A => self.a,
            Side::B => self.b,
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

/// The media of one call.
#[derive(Debug)]
pub struct Call {
    id: u64,
    settings: Settings,
    /// By the place of their `m=`; `None` where it is not relayed.
    streams: Vec<Option<Stream>>,
    /// Who offered, while the answer is awaited.
    offered_by: Option<Side>,
}

impl Call {
    /// `id` names its sessions: `id * 256` and on.
    #[must_use]
    pub fn new(id: u64, settings: Settings) -> Self {
        Self { id, settings, streams: Vec::new(), offered_by: None }
    }

    /// An offer, a first or a later one. `source`: the address its SIP came from, where that counts
    /// instead of the one in the description, as behind a NAT.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn offer(
        &mut self,
        now_ms: u64,
        from: Side,
        (text, source): (&[u8], Option<IpAddr>),
        mut pools: Pools<'_>,
    ) -> Result<Rewritten, CallError> {
        let sdp = Sdp::read(text)?;
        let mut streams: Vec<Option<Stream>> = Vec::new();
        let mut made = Vec::new();
        for (place, media) in sdp.media.iter().enumerate() {
            let kept = self.streams.get(place).cloned().flatten();
            let mut stream = match kept {
                _ if !media.is_relayable() => None,
                Some(stream) => Some(stream),
                None => {
                    let id = self.id.wrapping_mul(256).wrapping_add(place as u64 * 2);
                    match Stream::new(id, now_ms, &mut pools) {
                        Ok(stream) => {
                            made.push(stream.clone());
                            Some(stream)
                        }
                        Err(error) => {
                            made.iter().for_each(|stream| stream.release(now_ms, &mut pools));
                            return Err(error.into());
                        }
                    }
                }
            };
            if let Some(stream) = &mut stream {
                stream.describe(from, &MediaOf { media, source });
            }
            streams.push(stream);
        }
        let after = match self.rewrite(&sdp, &streams, from) {
            Ok(after) => after,
            Err(error) => {
                made.iter().for_each(|stream| stream.release(now_ms, &mut pools));
                return Err(error.into());
            }
        };
        let orders = self.replace(now_ms, streams, &mut pools);
        self.offered_by = Some(from);
        Ok((after, orders))
    }

    /// The answer to the last offer; may come again, as in a 183 and the 200.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn answer(
        &mut self,
        now_ms: u64,
        from: Side,
        (text, source): (&[u8], Option<IpAddr>),
        mut pools: Pools<'_>,
    ) -> Result<Rewritten, CallError> {
        if self.offered_by != Some(from.other()) {
            return Err(CallError::NoOffer);
        }
        let sdp = Sdp::read(text)?;
        let (offered, answered) = (self.streams.len(), sdp.media.len());
        if offered != answered {
            return Err(CallError::Streams { offered, answered });
        }
        let mut streams = self.streams.clone();
        for (stream, media) in streams.iter_mut().zip(&sdp.media) {
            match stream {
                Some(stream) if media.is_relayable() => {
                    stream.describe(from, &MediaOf { media, source });
                }
                _ => *stream = None,
            }
        }
        let after = self.rewrite(&sdp, &streams, from)?;
        let mut orders = self.replace(now_ms, streams, &mut pools);
        for stream in self.streams.iter_mut().flatten() {
            orders.extend(stream.open(&self.settings));
        }
        Ok((after, orders))
    }

    /// The call is over, or was not answered.
    pub fn end(&mut self, now_ms: u64, mut pools: Pools<'_>) -> Vec<Order> {
        self.offered_by = None;
        self.replace(now_ms, Vec::new(), &mut pools)
    }

    /// Takes `streams` for those there are: the orders to get there.
    fn replace(
        &mut self,
        now_ms: u64,
        streams: Vec<Option<Stream>>,
        pools: &mut Pools<'_>,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        let is_kept = |old: &Stream| streams.iter().flatten().any(|new| new.is_same(old));
        for old in self.streams.iter().flatten().filter(|old| !is_kept(old)) {
            orders.extend(old.removals());
            old.release(now_ms, pools);
        }
        self.streams = streams;
        for stream in self.streams.iter_mut().flatten() {
            orders.extend(stream.additions(&self.settings));
        }
        orders
    }

    /// The description as the other side gets it.
    fn rewrite(
        &self,
        sdp: &Sdp<'_>,
        streams: &[Option<Stream>],
        from: Side,
    ) -> Result<Vec<u8>, SdpError> {
        let local = |stream: &Stream| {
            let ports = stream.ports(from.other());
            At { rtp: ports.rtp, rtcp: ports.rtcp }
        };
        let at: Vec<Option<At>> = streams.iter().map(|stream| stream.as_ref().map(local)).collect();
        let ours = at.iter().flatten().next().map(|at| at.rtp.ip());
        let origin = ours.filter(|_| self.settings.replace_origin);
        sdp.rewrite(&Rewrite { at: &at, ice: self.settings.ice, origin })
    }
}

#[cfg(test)]
mod tests;
