//! RFC 5626 at the registrar (sip-behaviour 4.1-4.8): flows as keys of bindings.

use viaduct_message::{HeaderName, Message, NameAddr};

use super::{OutboundMode, SaveInput, SaveRefusal};
use crate::path::{last_value, write_received};

/// Largest `reg-id` (RFC 5626 11).
const MAX_REG_ID: u32 = 0x7fff_ffff;

/// What a REGISTER has to do with outbound; found out when its first `reg-id` is seen.
#[derive(Default)]
pub(super) struct Outbound {
    applies: Option<bool>,
    /// Contacts with a flow, and contacts that are to be bound.
    flows: usize,
    bound: usize,
    /// Where the REGISTER came from, for flows that end at us.
    received: Vec<u8>,
}

impl Outbound {
    /// The `reg-id` that counts as key: that of the contact where outbound applies, else 0.
    pub(super) fn key(
        &mut self,
        reg_id: u32,
        bound: bool,
        input: &SaveInput<'_>,
        path: &[u8],
    ) -> Result<u32, SaveRefusal> {
        self.bound = self.bound.saturating_add(usize::from(bound));
        if reg_id == 0 {
            return Ok(0);
        }
        let applies = match self.applies {
            Some(applies) => applies,
            None => self.decide(input, path)?,
        };
        self.applies = Some(applies);
        if !applies {
            return Ok(0);
        }
        self.flows = self.flows.saturating_add(1);
        Ok(reg_id)
    }

    /// RFC 5626 6: from the phone itself, or by way of a first hop that can find its flow again.
    fn decide(&mut self, input: &SaveInput<'_>, path: &[u8]) -> Result<bool, SaveRefusal> {
        if input.registrar.outbound == OutboundMode::Off {
            return Ok(false);
        }
        if is_first_hop(input.message) {
            write_received(input.flow.transport, input.flow.remote, &mut self.received);
            return Ok(true);
        }
        // R-O2: `ob` stands in the value of the hop next to the phone, which is the last.
        let by_edge = last_value(path)
            .and_then(|value| NameAddr::parse(value).ok()?.parse_uri().ok())
            .is_some_and(|uri| uri.param(b"ob").is_some());
        if !by_edge && input.message.has_option(HeaderName::Supported, b"outbound") {
            return Err(SaveRefusal::new(439, "First Hop Lacks Outbound Support"));
        }
        Ok(by_edge)
    }

    /// Was a flow registered?
    pub(super) fn is_used(&self) -> bool {
        self.flows > 0
    }

    /// Source of a flow that ends at us.
    pub(super) fn received(&self) -> Option<&[u8]> {
        (!self.received.is_empty()).then_some(&*self.received)
    }

    /// RFC 5626 6: who registers a flow binds one contact only.
    pub(super) fn check(&self) -> Result<(), SaveRefusal> {
        if self.flows > 0 && self.bound > 1 {
            return Err(SaveRefusal::new(400, "Several Contacts With reg-id"));
        }
        Ok(())
    }
}

/// Refuses a REGISTER that could not use outbound where it must.
pub(super) fn check_required(input: &SaveInput<'_>) -> Result<(), SaveRefusal> {
    let required = input.registrar.outbound == OutboundMode::Required;
    if required && !input.message.has_option(HeaderName::Supported, b"outbound") {
        let refusal = SaveRefusal::new(421, "Extension Required");
        return Err(refusal
            .with_header("Require", "outbound")
            .with_header("Supported", "outbound"));
    }
    Ok(())
}

/// Did nobody but the phone send it?
pub(super) fn is_first_hop(message: Message<'_>) -> bool {
    message.values(HeaderName::Via).nth(1).is_none()
}

/// Value of a `reg-id` parameter: 1 to 2^31 - 1.
pub(super) fn reg_id(value: Option<&[u8]>) -> Result<u32, SaveRefusal> {
    let number = value.and_then(super::apply::seconds);
    let number = number.filter(|number| (1..=MAX_REG_ID).contains(number));
    number.ok_or_else(|| SaveRefusal::new(400, "Bad reg-id"))
}
