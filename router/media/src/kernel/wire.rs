//! Generic netlink messages: a header each, then attributes, some of them nested.

use std::io;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLA_TYPE_MASK, NlasIterator};

use crate::executor::ExecutorError;

/// Of `nlmsghdr`.
const HEADER: usize = 16;
/// Of `genlmsghdr`.
const GENERIC_HEADER: usize = 4;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Attributes to be sent.
#[derive(Debug, Default)]
pub(crate) struct Attrs(Vec<u8>);

impl Attrs {
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let attr = DefaultNla::new(kind, value.to_vec());
        let at = self.0.len();
        // The emitter writes the padding's octets only where it writes anything.
        self.0.resize(at + attr.buffer_len(), 0);
        if let Some(room) = self.0.get_mut(at..) {
            attr.emit(room);
        }
        self
    }

    pub(crate) fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    pub(crate) fn put_u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(crate) fn put_u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(crate) fn nest(&mut self, kind: u16, inner: &Self) -> &mut Self {
        self.put(kind | NLA_F_NESTED, &inner.0)
    }

    /// Octets so far.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A whole request.
pub(crate) fn request(
    family: u16,
    flags: u16,
    sequence: u32,
    (command, version): (u8, u8),
    attrs: &Attrs,
) -> Vec<u8> {
    let len = HEADER + GENERIC_HEADER + attrs.0.len();
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    out.extend_from_slice(&family.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(&[command, version, 0, 0]);
    out.extend_from_slice(&attrs.0);
    out
}

/// Received attributes of one level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a>(&'a [u8]);

impl<'a> Received<'a> {
    /// Each attribute's type and value; ends at the first that is broken.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        NlasIterator::new(self.0)
            .map_while(Result::ok)
            .map(|attr| (attr.kind() & NLA_TYPE_MASK, attr.into_inner()))
            .filter_map(|(kind, whole)| {
                let len = u16::from_ne_bytes(whole.get(..2)?.try_into().ok()?);
                Some((kind, whole.get(4..usize::from(len))?))
            })
    }

    pub(crate) fn get(self, wanted: u16) -> Option<&'a [u8]> {
        self.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    pub(crate) fn nested(self, wanted: u16) -> Option<Self> {
        self.get(wanted).map(Received)
    }

    pub(crate) fn of(value: &'a [u8]) -> Self {
        Self(value)
    }

    pub(crate) fn u8(self, kind: u16) -> Option<u8> {
        self.get(kind)?.first().copied()
    }

    pub(crate) fn u16(self, kind: u16) -> Option<u16> {
        Some(u16::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub(crate) fn u64(self, kind: u16) -> Option<u64> {
        Some(u64::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }
}

/// One message of a datagram from the kernel.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    /// The request was carried out, or the dump is over.
    Done,
    /// The request was refused.
    Refused(ExecutorError),
    /// An answer or an event.
    Data {
        /// `NLM_F_*`.
        flags: u16,
        /// Command of the generic header.
        command: u8,
        /// Its attributes.
        attrs: Received<'a>,
    },
}

/// The messages of a datagram with their sequence numbers; ends at the first that is broken.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u32, Message<'_>)> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message = datagram.get(..len).filter(|message| message.len() >= HEADER)?;
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        let (kind, flags) = (u16_at(message, 4)?, u16_at(message, 6)?);
        let body = message.get(HEADER..)?;
        Some((u32_at(message, 8)?, of_kind(kind, flags, body)?))
    })
}

fn of_kind(kind: u16, flags: u16, body: &[u8]) -> Option<Message<'_>> {
    match kind {
        NLMSG_DONE => Some(Message::Done),
        NLMSG_ERROR => {
            let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
            Some(if code == 0 {
                Message::Done
            } else {
                Message::Refused(refusal(code, flags, body))
            })
        }
        _ => Some(Message::Data {
            flags,
            command: *body.first()?,
            attrs: Received(body.get(GENERIC_HEADER..)?),
        }),
    }
}

/// The reason is in the extended acknowledgement, behind the request that is sent back.
fn refusal(code: i32, flags: u16, body: &[u8]) -> ExecutorError {
    let errno = io::Error::from_raw_os_error(code.saturating_neg());
    let text = || {
        if flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let request_len = if flags & NLM_F_CAPPED == 0 {
            usize::try_from(u32_at(body, 4)?).ok()?.next_multiple_of(4)
        } else {
            HEADER
        };
        let text = Received(body.get(4 + request_len..)?).get(NLMSGERR_ATTR_MSG)?;
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let reason = text().unwrap_or_else(|| "the kernel module gave no reason".to_owned());
    ExecutorError::Refused { reason, errno }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_put_is_got() {
        let mut inner = Attrs::default();
        inner.put_u8(3, 7).put_u64(4, u64::MAX);
        let mut attrs = Attrs::default();
        attrs.put_u16(1, 513).put(2, &[1, 2, 3, 4, 5]).nest(5, &inner).put_u32(6, 9);
        let bytes = request(30, NLM_F_REQUEST, 42, (9, 1), &attrs);
        let (sequence, message) = messages(&bytes).next().unwrap();
        assert_eq!(sequence, 42);
        let Message::Data { flags, command, attrs } = message else { panic!("{message:?}") };
        assert_eq!((flags, command), (NLM_F_REQUEST, 9));
        assert_eq!((attrs.u16(1), attrs.u32(6)), (Some(513), Some(9)));
        assert_eq!(attrs.get(2), Some(&[1, 2, 3, 4, 5][..]));
        let inner = attrs.nested(5).unwrap();
        assert_eq!((inner.u8(3), inner.u64(4)), (Some(7), Some(u64::MAX)));
        assert!(attrs.u32(1).is_none(), "of another size");
    }

    #[test]
    fn a_refusal_carries_the_reason_of_the_extended_acknowledgement() {
        let asked = request(30, NLM_F_REQUEST, 5, (1, 1), Attrs::default().put_u32(1, 1));
        let mut body = (-22i32).to_ne_bytes().to_vec();
        body.extend_from_slice(&asked);
        let mut reason = Attrs::default();
        reason.put(NLMSGERR_ATTR_MSG, b"no\0");
        body.extend_from_slice(&reason.0);
        let len = u32::try_from(HEADER + body.len()).unwrap();
        let mut datagram = len.to_ne_bytes().to_vec();
        datagram.extend_from_slice(&NLMSG_ERROR.to_ne_bytes());
        datagram.extend_from_slice(&NLM_F_ACK_TLVS.to_ne_bytes());
        datagram.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0]);
        datagram.extend_from_slice(&body);
        let (_, message) = messages(&datagram).next().unwrap();
        let Message::Refused(error) = message else { panic!("{message:?}") };
        assert!(error.to_string().starts_with("refused: no ("), "{error}");
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_without_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            for (_, message) in messages(&data) {
                if let Message::Data { attrs, .. } = message {
                    prop_assert!(attrs.iter().count() <= data.len() / 4);
                }
            }
        }
    }
}
