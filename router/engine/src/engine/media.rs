//! Media orders are carried out, and what came to nothing is taken back. The relay itself is
//! [`crate::media::Media`].

use viaduct_message::{Message, Method};

use super::Engine;
use super::ids::Id;
use crate::flow::Flow;
use crate::hook::Policy;
use crate::io::Event;
use crate::media::{Action, MediaMessage, Order, Tags};
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
    fn of(order: &Order, message: Message<'_>, branches: bool) -> Option<Box<Offered>> {
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

impl<P: Policy> Engine<P> {
    /// Carries out the order a run has staged about its request. The error is what the request is to
    /// be answered.
    pub(super) fn relay_media(&mut self, run: &mut Run) -> Result<Relayed, u16> {
        let Some(order) = run.effects.media.take() else { return Ok(Relayed::default()) };
        let body = self.order_media(&order, (run.message(), run.flow), None)?;
        let offered = Offered::of(&order, run.message(), false);
        Ok(Relayed { body: body.map(Vec::into_boxed_slice), offered })
    }

    /// The same for one branch, whose request is in `run`. Gives its new body.
    pub(super) fn relay_branch_media(
        &mut self,
        (id, branch): (Id, usize),
        run: &mut Run,
    ) -> Result<Option<Vec<u8>>, u16> {
        let Some(order) = run.effects.media.take() else { return Ok(None) };
        let body = self.order_media(&order, (run.message(), run.flow), Some(branch as u32))?;
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
    ) -> Option<Vec<u8>> {
        self.order_media(&*order?, message, branch).unwrap_or_default()
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
    ) -> Result<Option<Vec<u8>>, u16> {
        let Some(media) = self.settings.shared.media.clone() else { return Ok(None) };
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
        media.handle(self.now, order, &about).map_err(|fault| {
            let status = fault.status();
            let call_id = String::from_utf8_lossy(about.tags.call_id).into();
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
