//! Phones behind NAT. The functions of this module need the grant `nat`; the alias needs `message`
//! and `routing`.

use crate::bindings::viaduct::policy::nat as host;
use crate::message::{EditError, Field, Message};
use crate::{Request, Response, Transport, alias, routing};

/// Answer to the port the request came from, whether asked by `rport` or not (RFC 3581).
pub fn force_rport() {
    host::force_rport();
}

/// Let [`usrloc::save`](crate::usrloc::save) store where the REGISTER came from. The phone's
/// Contact stays as it is, because the phone wants to see it again in the 200.
pub fn fix_register() {
    host::fix_register();
}

/// Does the topmost Via, or the Contact, name another address than the one the request came from?
pub fn is_behind_nat() -> bool {
    host::is_behind_nat()
}

/// Is one of the named tests true? Names as in OpenSIPS' `nat_uac_test`, with commas:
/// `private-contact`, `diff-ip-src-via`, `private-via`, `private-sdp`, `diff-port-src-via`,
/// `diff-ip-src-contact`, `diff-port-src-contact`, `carrier-grade-nat`; or the sum of their bits,
/// 1 to 128 in this order. The error is the name that does not exist.
pub fn test(names: &str) -> Result<bool, String> {
    host::test(names)
}

/// Stages a Contact that names the address the message came from (`fix_nated_contact`). The peer
/// will see another Contact than it sent; for REGISTER prefer [`fix_register`]. False where the
/// Contact names that address, or is not one SIP URI.
pub fn fix_contact() -> Result<bool, EditError> {
    host::fix_contact()
}

impl Request {
    /// Writes where the request came from into its Contact, as parameter `alias`, unless the
    /// Contact says the same. Requests of the dialog that come back with it find the phone by
    /// [`Request::follow_alias`]. Was it written?
    pub fn add_contact_alias(&self) -> Result<bool, EditError> {
        add_contact_alias(self, self.source_port(), self.transport())
    }

    /// Takes the parameter `alias` out of the Request-URI and makes it the next hop; false where
    /// there is none.
    ///
    /// Anybody can write such a parameter. Follow it only where the sender may name a next hop: in
    /// requests of trusted peers.
    pub fn follow_alias(&self) -> Result<bool, EditError> {
        let Some((uri, hop)) = alias::take(&self.request_uri()) else {
            return Ok(false);
        };
        self.set_request_uri(&uri)?;
        routing::set_destination(&hop)?;
        Ok(true)
    }
}

impl Response {
    /// [`Request::add_contact_alias`] for the Contact of a response.
    pub fn add_contact_alias(&self) -> Result<bool, EditError> {
        add_contact_alias(self, self.source_port(), self.transport())
    }
}

fn add_contact_alias(message: &Message, port: u16, by: Transport) -> Result<bool, EditError> {
    let contacts = message.headers("Contact");
    let [contact] = contacts.as_slice() else {
        return Ok(false);
    };
    let Some(value) = alias::add(contact, &message.get(Field::SourceIp), port, by) else {
        return Ok(false);
    };
    message.set_header("Contact", &value)?;
    Ok(true)
}
