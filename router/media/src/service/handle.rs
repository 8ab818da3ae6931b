//! Orders about messages.

use viaduct_engine::Now;
use viaduct_engine::media::{Action, EndReason, MediaFault, MediaFlags, MediaMessage, Order, Tags};
use viaduct_message::Method;

use super::dialog::{Begun, Dialog};
use super::{Inner, ms};
use crate::call::{Call, CallError, Pools, Said, Settings, Show, Side};
use crate::dialog::{self, Exchange, Meaning};
use crate::ports::PortError;
use crate::sdp::body::Place;
use crate::sdp::{Ice, Sdp};

/// Other ports are tried so often where somebody else has taken those we chose.
const TRIES: usize = 4;

impl Inner {
    pub(super) fn handle(
        &mut self,
        now: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Option<Vec<u8>>, MediaFault> {
        let place = Place::find(message.content_type, message.body);
        let found = self.calls.find(message);
        let meaning = self.meaning(order.action, message, place.is_some(), found);
        if let Some((id, _)) = found {
            self.note_response(now, id, message);
        }
        match (meaning, place) {
            (Meaning::Offer | Meaning::Answer, Some(place)) => {
                let text = place.of(message.body);
                if self.is_own(text) {
                    return Ok(None);
                }
                let text = self.describe(now, (meaning, found), order, (message, text))?;
                Ok(text.map(|text| place.replaced(message.body, &text)))
            }
            (Meaning::Awaited, _) => {
                let (id, _) = self.begin(now, order, message)?;
                self.keep(now, id);
                Ok(None)
            }
            (Meaning::Delete, _) => {
                self.delete(now, message.tags, found);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn meaning(
        &mut self,
        action: Action,
        message: &MediaMessage<'_>,
        has_sdp: bool,
        found: Option<(u64, Side)>,
    ) -> Meaning {
        let call = found.and_then(|(id, side)| Some((&self.calls.get(id)?.call, side)));
        let exchange = call.map(|(call, side)| Exchange {
            side,
            offered_by: call.offered_by(),
            is_open: call.is_open(),
        });
        dialog::meaning(action, message, has_sdp, exchange)
    }

    /// A description with an address of ours has been here already: the message passes twice.
    fn is_own(&self, text: &[u8]) -> bool {
        let pools = &self.interfaces.pools;
        let is_ours = |address| pools.iter().any(|pool| pool.tells(address));
        Sdp::read(text).is_ok_and(|sdp| sdp.media.iter().any(|m| m.peer().is_some_and(is_ours)))
    }

    fn note_response(&mut self, now: Now, id: u64, message: &MediaMessage<'_>) {
        if message.status == 0 {
            return;
        }
        let Some(dialog) = self.calls.get(id) else { return };
        if !dialog.parties.is_called_by(message.tags.from) {
            return;
        }
        let is_new = dialog.parties.note_callee(message.tags.to);
        let is_taken = message.method == Method::Invite && (200..300).contains(&message.status);
        let confirmed = is_taken && dialog.parties.confirm(message.tags.to);
        if confirmed {
            // The other branches are cancelled now.
            self.end_unconfirmed(now, message.tags, None);
        }
        if confirmed || is_new {
            self.keep(now, id);
        }
    }

    /// A dialog for a message that belongs to none.
    fn begin(
        &mut self,
        now: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<(u64, Side), MediaFault> {
        let most = self.config.calls;
        if self.calls.len() >= most || !self.calls.has_room_for(message.tags.call_id) {
            self.numbers.refused_busy += 1;
            return Err(MediaFault::Busy(format!("{most} calls are relayed already")));
        }
        let id = self.next_id;
        self.next_id += 1;
        let settings = settings_of(self.config.settings, &order.flags);
        let begun = Begun { id, ms: ms(now), unix_ms: now.unix_ms };
        let flags = order.flags.clone();
        let dialog = Dialog::new(begun, message, Call::new(id, settings), flags);
        self.calls.add(message.tags.call_id, dialog);
        self.numbers.calls_begun += 1;
        let writer = if message.status == 0 { Side::A } else { Side::B };
        Ok((id, writer))
    }

    /// An offer or an answer. `None`: it stays as it is.
    fn describe(
        &mut self,
        now: Now,
        (meaning, found): (Meaning, Option<(u64, Side)>),
        order: &Order,
        (message, text): (&MediaMessage<'_>, &[u8]),
    ) -> Result<Option<Vec<u8>>, MediaFault> {
        let (id, side) = match found {
            Some(found) => found,
            None if meaning == Meaning::Offer => self.begin(now, order, message)?,
            None => return Ok(None),
        };
        let result = self.described(now, meaning, (id, side), order, (message, text));
        if result.is_err() && found.is_none() {
            self.calls.remove(id);
        }
        self.keep(now, id);
        result.map(Some)
    }

    fn described(
        &mut self,
        now: Now,
        meaning: Meaning,
        (id, side): (u64, Side),
        order: &Order,
        (message, text): (&MediaMessage<'_>, &[u8]),
    ) -> Result<Vec<u8>, MediaFault> {
        let places = self.places(id, side, (message, text))?;
        let gone = || MediaFault::Failed("the call is gone".to_owned());
        let first = self.calls.get(id).ok_or_else(gone)?.flags.clone();
        let said = Said {
            from: side,
            text,
            source: order.flags.sip_source.then_some(message.source),
            show: show_of(&first, &order.flags),
            settles: message.status == 0 || message.status >= 200,
        };
        for _ in 0..TRIES {
            let random = (self.draw)();
            let dialog = self.calls.get(id).ok_or_else(gone)?;
            let mut pools = Pools { all: &mut self.interfaces.pools, places, random };
            let (text, orders) = match meaning {
                Meaning::Answer => dialog.call.answer(ms(now), &said, &mut pools),
                _ => dialog.call.offer(ms(now), &said, &mut pools),
            }
            .map_err(fault_of)?;
            dialog.changed_ms = ms(now);
            dialog.answered |= meaning == Meaning::Answer;
            self.count(meaning);
            let Err(error) = self.carry_out(id, &orders) else { return Ok(text) };
            tracing::warn!(%error, "an order to the media executor has failed");
            if meaning == Meaning::Answer {
                return Err(MediaFault::Failed(error.to_string()));
            }
            // Somebody else may have these ports: they rest, and others are tried.
            self.take_back(now, id);
        }
        Err(MediaFault::Failed("no media port could be opened".to_owned()))
    }

    /// Which interfaces face the sides of a call, chosen with its first description.
    fn places(
        &mut self,
        id: u64,
        side: Side,
        (message, text): (&MediaMessage<'_>, &[u8]),
    ) -> Result<[usize; 2], MediaFault> {
        let gone = || MediaFault::Failed("the call is gone".to_owned());
        let interfaces = &self.interfaces;
        let dialog = self.calls.get(id).ok_or_else(gone)?;
        if let Some(places) = dialog.places {
            return Ok(places);
        }
        let sdp = Sdp::read(text).map_err(|error| MediaFault::Description(error.to_string()))?;
        let ipv6 = sdp.media.iter().find_map(|m| m.connection).is_some_and(|ip| ip.is_ipv6());
        let mut flags = dialog.flags.clone();
        if side == Side::B {
            // They were given for the way from A to B.
            std::mem::swap(&mut flags.inside, &mut flags.outside);
        }
        let none = || {
            let family = if ipv6 { "IPv6" } else { "IPv4" };
            MediaFault::Description(format!("no media address for {family}"))
        };
        let [from, to] = interfaces.choose(&flags, message.local, ipv6).ok_or_else(none)?;
        let places = if side == Side::A { [from, to] } else { [to, from] };
        dialog.places = Some(places);
        Ok(places)
    }

    fn count(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::Answer => self.numbers.answers += 1,
            _ => self.numbers.offers += 1,
        }
    }

    fn take_back(&mut self, now: Now, id: u64) {
        let Some(dialog) = self.calls.get(id) else { return };
        let places = dialog.places.unwrap_or_default();
        let mut pools = Pools { all: &mut self.interfaces.pools, places, random: 0 };
        let orders = dialog.call.refuse(ms(now), &mut pools);
        // Some were never carried out, and what is not there need not be removed.
        for order in orders {
            if let Err(error) = self.carry_out(id, std::slice::from_ref(&order)) {
                tracing::debug!(%error, "not taken back");
            }
        }
    }

    fn delete(&mut self, now: Now, tags: Tags<'_>, found: Option<(u64, Side)>) {
        if tags.to.is_empty() {
            return self.end_unconfirmed(now, tags, None);
        }
        if let Some((id, _)) = found {
            self.end(now, id, EndReason::Ended);
        }
    }

    /// A request has come to nothing.
    pub(super) fn refused(&mut self, now: Now, tags: Tags<'_>, branch: Option<u32>) {
        if tags.to.is_empty() {
            return self.end_unconfirmed(now, tags, branch);
        }
        if let Some((id, _)) = self.calls.requested(tags, None, false) {
            self.take_back(now, id);
            self.keep(now, id);
        }
    }

    /// Ends what this caller's INVITE has begun and nobody has taken. `branch`: in it alone.
    fn end_unconfirmed(&mut self, now: Now, tags: Tags<'_>, branch: Option<u32>) {
        let dialogs = self.calls.of(tags.call_id).iter();
        let open = dialogs
            .filter(|dialog| !dialog.parties.confirmed && dialog.parties.is_called_by(tags.from));
        let in_branch =
            open.filter(|d| branch.is_none() || d.has_branch() && d.is_of_branch(branch));
        let ids: Vec<u64> = in_branch.map(|dialog| dialog.id).collect();
        for id in ids {
            self.end(now, id, EndReason::Refused);
        }
    }
}

fn settings_of(settings: Settings, flags: &MediaFlags) -> Settings {
    Settings {
        handover: settings.handover || flags.handover,
        dscp_audio: flags.dscp.or(settings.dscp_audio),
        dscp_video: flags.dscp.or(settings.dscp_video),
        ..settings
    }
}

/// What the call's first order wanted holds for its later ones, but for the address told.
fn show_of(first: &MediaFlags, now: &MediaFlags) -> Show {
    Show {
        ice: if first.keep_ice || now.keep_ice { Ice::Keep } else { Ice::Remove },
        origin: first.replace_origin || now.replace_origin,
        connection: first.replace_connection || now.replace_connection,
        address: now.media_address,
    }
}

fn fault_of(error: CallError) -> MediaFault {
    let text = error.to_string();
    match error {
        CallError::Sdp(_) | CallError::NoOffer | CallError::Streams { .. } => {
            MediaFault::Description(text)
        }
        CallError::Ports(PortError::Exhausted(_)) => MediaFault::Busy(text),
        CallError::Ports(PortError::Range) => MediaFault::Failed(text),
    }
}
