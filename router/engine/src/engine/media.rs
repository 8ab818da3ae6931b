//! Media orders are carried out, and what came to nothing is taken back. The relay itself is
//! [`crate::media::Media`]. Where it has to be asked, the message waits: see `media_wait`.

use std::sync::Arc;

use viaduct_message::{Message, Method};

use super::Engine;
use super::ids::Id;
use crate::flow::Flow;
use crate::hook::Policy;
use crate::io::Event;
use crate::media::{Action, Handled, MediaMessage, MediaOrder, MediaResult, Order, Tags};
use crate::query::Fact;
use crate::run::{Run, tags_of};

/// The offer of a request under way, to be taken back where the request comes to nothing.
#[derive(Debug)]
pub(crate) struct Offered {
    call_id: Box<[u8]>,
    from: Box<[u8]>,
    to: Box<[u8]>,
    /// Its branches have media of their own.
    branches: bool,
}

impl Offered {
    /// Of a request whose order has been carried out; `None`: it cannot hold an offer.
    pub(super) fn of(order: &Order, message: Message<'_>, branches: bool) -> Option<Box<Offered>> {
        let offers = matches!(message.method(), Method::Invite | Method::Update | Method::Prack);
        if !offers || order.action == Action::Delete {
            return None;
        }
        let Tags { call_id, from, to } = tags_of(message);
        let (call_id, from, to) = (call_id.into(), from.into(), to.into());
        Some(Box::new(Offered { call_id, from, to, branches }))
    }

    fn tags(&self) -> Tags<'_> {
        Tags { call_id: &self.call_id, from: &self.from, to: &self.to }
    }
}

/// What an order about a request came to.
#[derive(Default)]
pub(super) struct Relayed {
    /// Its body as it is to be sent on; `None`: as it came.
    pub(super) body: Option<Box<[u8]>>,
    pub(super) offered: Option<Box<Offered>>,
}

/// What comes of an order at once.
pub(super) enum Ordered<T> {
    Done(T),
    /// The relay has to be asked first.
    Ask(Arc<MediaOrder>),
}

impl<T> Ordered<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Ordered<U> {
        match self {
            Ordered::Done(done) => Ordered::Done(change(done)),
            Ordered::Ask(order) => Ordered::Ask(order),
        }
    }
}

impl<P: Policy> Engine<P> {
    /// Carries out the order a run has staged about its request. The error is what the request is to
    /// be answered. Where the relay has been asked already, its answer is among the run's facts.
    pub(super) fn relay_media(&mut self, run: &mut Run) -> Result<Ordered<Relayed>, u16> {
        let Some(order) = run.effects.media.take() else {
            return Ok(Ordered::Done(Relayed::default()));
        };
        let body = match run.facts.pop_if(|fact| matches!(fact, Fact::Media(_))) {
            Some(Fact::Media(result)) => {
                Ordered::Done(self.relayed(result, tags_of(run.message()).call_id)?)
            }
            _ => self.order_media(&order, (run.message(), run.flow), None)?,
        };
        let offered = Offered::of(&order, run.message(), false);
        if matches!(body, Ordered::Ask(_)) {
            run.effects.media = Some(order);
        }
        Ok(body.map(|body| Relayed { body: body.map(Vec::into_boxed_slice), offered }))
    }

    /// The same for one branch, whose request is in `run`. Gives its new body.
    pub(super) fn relay_branch_media(
        &mut self,
        (id, branch): (Id, usize),
        run: &mut Run,
    ) -> Result<Ordered<Option<Vec<u8>>>, u16> {
        let Some(order) = run.effects.media.take() else { return Ok(Ordered::Done(None)) };
        let known = self.server(id).and_then(|server| server.branches.get_mut(branch));
        let body = match known.and_then(|state| state.media.take()) {
            Some(result) => Ordered::Done(self.relayed(result, tags_of(run.message()).call_id)?),
            None => self.order_media(&order, (run.message(), run.flow), Some(branch as u32))?,
        };
        if let Some(server) = self.server(id) {
            server.media = Offered::of(&order, run.message(), true).or(server.media.take());
        }
        Ok(body)
    }

    /// An order about a message that is sent on whatever comes of it: a response, an ACK.
    pub(super) fn relay_media_of(
        &mut self,
        order: Option<Box<Order>>,
        message: (Message<'_>, Flow),
        branch: Option<u32>,
    ) -> Ordered<Option<Vec<u8>>> {
        let ordered = order.map(|order| self.order_media(&order, message, branch));
        ordered.and_then(Result::ok).unwrap_or(Ordered::Done(None))
    }

    /// A request that is not sent on, or has failed: of its order only the end of the call counts.
    pub(super) fn end_media(&mut self, run: &mut Run) {
        if let Some(order) = run.effects.media.take_if(|order| order.action == Action::Delete) {
            self.relay_media_of(Some(order), (run.message(), run.flow), None);
        }
    }

    fn order_media(
        &mut self,
        order: &Order,
        (message, flow): (Message<'_>, Flow),
        branch: Option<u32>,
    ) -> Result<Ordered<Option<Vec<u8>>>, u16> {
        let Some(media) = self.settings.shared.media.clone() else {
            return Ok(Ordered::Done(None));
        };
        let about = MediaMessage {
            tags: tags_of(message),
            method: message.method(),
            status: message.status(),
            branch,
            source: flow.remote.ip(),
            local: flow.local.ip(),
            content_type: message.value_by_label(b"Content-Type").unwrap_or_default(),
            body: message.body(),
        };
        match media.handle(self.now, order, &about) {
            Ok(Handled::Done(body)) => Ok(Ordered::Done(body)),
            Ok(Handled::Ask(order)) => Ok(Ordered::Ask(order)),
            Err(fault) => self.relayed(Err(fault), about.tags.call_id).map(Ordered::Done),
        }
    }

    /// What a relay has made of an order; a failure is told of. The error is what a request is to be
    /// answered.
    pub(super) fn relayed(
        &mut self,
        result: MediaResult,
        call_id: &[u8],
    ) -> Result<Option<Vec<u8>>, u16> {
        result.map_err(|fault| {
            let status = fault.status();
            let call_id = String::from_utf8_lossy(call_id).into();
            self.counters.media_failed = self.counters.media_failed.wrapping_add(1);
            self.event(Event::MediaFailed { call_id, fault, status });
            status
        })
    }

    /// A request has its final response, or will never have one.
    pub(super) fn settle_media(&mut self, offered: Option<Box<Offered>>, status: u16) {
        let (Some(offered), Some(media)) = (offered, &self.settings.shared.media) else { return };
        if !(200..300).contains(&status) {
            media.refused(self.now, offered.tags(), None);
        }
    }

    /// A branch has failed.
    pub(super) fn settle_branch_media(&mut self, id: Id, branch: usize) {
        let Some(server) = self.servers.get(id.slot as usize) else { return };
        let offered = server.media.as_deref().filter(|offered| offered.branches);
        if let (Some(offered), Some(media)) = (offered, &self.settings.shared.media) {
            media.refused(self.now, offered.tags(), Some(branch as u32));
        }
    }
}
