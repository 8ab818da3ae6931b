//! The fields every request is handled by, parsed once.

use crate::{CSeq, ContactPlace, Fault, HeaderName, Host, Message, NameAddr, Uri, Via};

/// What a proxy reads of every request (RFC 3261 16.3 to 16.6, 17.2.3). Parsing is a good part of
/// what a message costs, so [`crate::check::request`] hands on what it has parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Essentials<'a> {
    /// Request-URI.
    pub uri: Uri<'a>,
    /// Topmost Via.
    pub via: Via<'a>,
    /// Are there Via values below the topmost: did the request pass another proxy?
    pub more_vias: bool,
    /// From.
    pub from: NameAddr<'a>,
    /// The URI in From.
    pub from_uri: Uri<'a>,
    /// The tag of From.
    pub from_tag: Option<&'a [u8]>,
    /// To.
    pub to: NameAddr<'a>,
    /// The URI in To.
    pub to_uri: Uri<'a>,
    /// The tag of To.
    pub to_tag: Option<&'a [u8]>,
    /// Call-ID.
    pub call_id: &'a [u8],
    /// CSeq.
    pub cseq: CSeq<'a>,
    /// Max-Forwards.
    pub max_forwards: Option<u8>,
    /// Host of the first Contact, where [`crate::check::request`] has read it: in REGISTER.
    pub contact_host: Option<Host<'a>>,
    /// The Contact, where it has been read and is the only one.
    pub contact: Option<ContactPlace>,
}

impl<'a> Essentials<'a> {
    /// Reads them; the fault names the first that is missing or malformed.
    pub fn read(message: Message<'a>) -> Result<Essentials<'a>, Fault> {
        // These are large: each stays where it was read until all are put together.
        let uri = message.parse_request_uri();
        let uri = uri.as_ref().map_err(|fault| *fault)?;
        // In what parses no comma separates: it is the only value of its line.
        let only = message.only_line(HeaderName::Via).map(Via::parse);
        let first;
        let (via, more_vias) = match &only {
            Some(Ok(via)) => (via, false),
            _ => {
                let mut vias = message.values(HeaderName::Via);
                first = match vias.next() {
                    Some(value) => Via::parse(value.bytes)?,
                    None => message.top_via()?,
                };
                (&first, vias.next().is_some())
            }
        };
        let from = message.from();
        let from = from.as_ref().map_err(|fault| *fault)?;
        let to = message.to();
        let to = to.as_ref().map_err(|fault| *fault)?;
        let from_uri = from.parse_uri();
        let from_uri = from_uri.as_ref().map_err(|_| Fault::Header(HeaderName::From))?;
        let other;
        // A phone that registers is sender and subject.
        let to_uri = match to.uri == from.uri {
            true => from_uri,
            false => {
                other = to.parse_uri().map_err(|_| Fault::Header(HeaderName::To))?;
                &other
            }
        };
        Ok(Essentials {
            uri: *uri,
            via: *via,
            more_vias,
            from: *from,
            from_uri: *from_uri,
            from_tag: from.tag(),
            to: *to,
            to_uri: *to_uri,
            to_tag: to.tag(),
            call_id: message.call_id()?,
            cseq: message.cseq()?,
            max_forwards: message.max_forwards()?,
            contact_host: None,
            contact: None,
        })
    }
}
