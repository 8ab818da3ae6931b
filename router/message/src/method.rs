//! Request methods (RFC 3261 7.1 and the extensions in common use).

use crate::chars;

/// A method we have a rule for, or `Other`. Method names are case-sensitive (RFC 3261 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // each variant is the method of that name
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Subscribe,
    Notify,
    Refer,
    Message,
    Info,
    Prack,
    Update,
    Publish,
    Other,
}

impl Method {
    /// The method of a text that must be a token. Of those we know that need not be asked.
    #[inline]
    pub(crate) fn parse(text: &[u8]) -> Option<Method> {
        match Method::from_token(text) {
            Method::Other if !chars::is_token(text) => None,
            method => Some(method),
        }
    }

    /// The method a token names.
    pub fn from_token(token: &[u8]) -> Method {
        match token {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"REGISTER" => Method::Register,
            b"OPTIONS" => Method::Options,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"REFER" => Method::Refer,
            b"MESSAGE" => Method::Message,
            b"INFO" => Method::Info,
            b"PRACK" => Method::Prack,
            b"UPDATE" => Method::Update,
            b"PUBLISH" => Method::Publish,
            _ => Method::Other,
        }
    }
}
