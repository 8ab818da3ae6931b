//! Bytes of one record: a version, then the bindings of one AoR.
//!
//! Numbers are little-endian base-128 (seven bits a byte, low first), texts have their length in
//! front. A reader takes any bytes and gives bindings or an error, never a panic, and allocates no
//! more than the bytes it was given can fill.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::{ConnId, Transport};

/// The version this file writes.
const VERSION: u8 = 1;
/// Bindings a record may hold: far above what a registrar lets an AoR have.
const MAX_BINDINGS: u64 = 1024;
/// Bits of a binding's flag byte.
const HAS_Q: u8 = 1;
const HAS_METHODS: u8 = 1 << 1;
const NAT: u8 = 1 << 2;
const IPV6: u8 = 1 << 3;
const HAS_ATTRIBUTES: u8 = 1 << 4;
const KNOWN_FLAGS: u8 = HAS_Q | HAS_METHODS | NAT | IPV6 | HAS_ATTRIBUTES;

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a later version of the router.
    #[error("unknown record version {0} (this version reads {VERSION})")]
    Version(u8),
    /// The bytes end too early.
    #[error("record is cut short")]
    Short,
    /// A value that cannot be.
    #[error("bad {0} in record")]
    Value(&'static str),
    /// Bytes left over.
    #[error("{0} bytes too many in record")]
    Trailing(usize),
}

/// Appends the record of a set.
pub fn encode(set: &BindingSet, out: &mut Vec<u8>) {
    out.push(VERSION);
    write_number(set.bindings.len() as u64, out);
    for binding in &set.bindings {
        encode_binding(&binding.fields(), out);
    }
}

fn encode_binding(fields: &BindingFields<'_>, out: &mut Vec<u8>) {
    let flag = |condition: bool, bit: u8| if condition { bit } else { 0 };
    out.push(
        flag(fields.q_milli.is_some(), HAS_Q)
            | flag(fields.methods.is_some(), HAS_METHODS)
            | flag(fields.nat, NAT)
            | flag(fields.local.is_ipv6(), IPV6)
            | flag(!fields.attributes.is_empty(), HAS_ATTRIBUTES),
    );
    out.push(fields.transport as u8);
    write_number(fields.cseq.into(), out);
    write_number(fields.reg_id.into(), out);
    write_number(fields.modified_ms, out);
    write_number(fields.expires_ms, out);
    if let Some(q_milli) = fields.q_milli {
        write_number(q_milli.into(), out);
    }
    if let Some(methods) = fields.methods {
        write_number(methods.into(), out);
    }
    match fields.local.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    write_number(fields.local.port().into(), out);
    let attributes = Some(fields.attributes).filter(|text| !text.is_empty());
    for text in texts(fields).into_iter().chain(attributes) {
        write_number(text.len() as u64, out);
        out.extend_from_slice(text);
    }
}

fn texts<'a>(fields: &BindingFields<'a>) -> [&'a [u8]; 7] {
    [
        fields.contact,
        fields.contact_params,
        fields.path,
        fields.received,
        fields.call_id,
        fields.user_agent,
        fields.instance,
    ]
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a record. Connections are not in it: they end with the process.
pub fn decode(bytes: &[u8]) -> Result<BindingSet, RecordError> {
    let mut reader = Reader { rest: bytes };
    match reader.byte()? {
        VERSION => {}
        version => return Err(RecordError::Version(version)),
    }
    let count = reader.number()?;
    if count > MAX_BINDINGS {
        return Err(RecordError::Value("number of bindings"));
    }
    let mut bindings = Vec::new();
    for _ in 0..count {
        bindings.push(reader.binding()?);
    }
    match reader.rest.len() {
        0 => Ok(BindingSet { bindings: bindings.into() }),
        left => Err(RecordError::Trailing(left)),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, RecordError> {
        let (first, rest) = self.rest.split_first().ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn number(&mut self) -> Result<u64, RecordError> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return Err(RecordError::Value("number"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(RecordError::Value("number"))
    }

    fn small<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, RecordError> {
        T::try_from(self.number()?).map_err(|_| RecordError::Value(what))
    }

    fn text(&mut self) -> Result<&'a [u8], RecordError> {
        let length: u16 = self.small("text length")?;
        self.bytes(length.into())
    }

    fn transport(&mut self) -> Result<Transport, RecordError> {
        match self.byte()? {
            1 => Ok(Transport::Udp),
            2 => Ok(Transport::Tcp),
            3 => Ok(Transport::Tls),
            5 => Ok(Transport::Ws),
            6 => Ok(Transport::Wss),
            _ => Err(RecordError::Value("transport")),
        }
    }

    fn binding(&mut self) -> Result<Binding, RecordError> {
        let flags = self.byte()?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(RecordError::Value("flags"));
        }
        let has = |bit: u8| flags & bit != 0;
        let transport = self.transport()?;
        let (cseq, reg_id) = (self.small("CSeq")?, self.small("reg-id")?);
        let (modified_ms, expires_ms) = (self.number()?, self.number()?);
        let q_milli = if has(HAS_Q) { Some(self.small("q")?) } else { None };
        if q_milli.is_some_and(|q: u16| q > 1000) {
            return Err(RecordError::Value("q"));
        }
        let methods = if has(HAS_METHODS) { Some(self.small("methods")?) } else { None };
        let ip = if has(IPV6) {
            IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))
        } else {
            IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))
        };
        let local = SocketAddr::new(ip, self.small("port")?);
        let mut texts = [&[][..]; 7];
        for text in &mut texts {
            *text = self.text()?;
        }
        let [contact, contact_params, path, received, call_id, user_agent, instance] = texts;
        let attributes = if has(HAS_ATTRIBUTES) { self.text()? } else { b"" };
        Ok(Binding::pack(&BindingFields {
            contact,
            contact_params,
            path,
            received,
            call_id,
            user_agent,
            instance,
            attributes,
            cseq,
            q_milli,
            reg_id,
            methods,
            expires_ms,
            modified_ms,
            transport,
            local,
            conn: ConnId::NONE,
            nat: has(NAT),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(set: &BindingSet) -> Vec<u8> {
        let mut out = Vec::new();
        encode(set, &mut out);
        out
    }

    fn arbitrary_binding() -> impl Strategy<Value = Binding> {
        let texts = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 8);
        let numbers = (any::<u32>(), proptest::option::of(0u16..=1000), any::<u32>());
        let more = (
            proptest::option::of(0u32..u32::MAX),
            any::<u64>(),
            any::<u64>(),
            any::<std::net::SocketAddr>(),
            any::<bool>(),
        );
        (texts, numbers, more, 0usize..4).prop_map(|(texts, (cseq, q_milli, reg_id), more, t)| {
            let (methods, expires_ms, modified_ms, local, nat) = more;
            // Scope and flow label of IPv6 are not kept.
            let local = SocketAddr::new(local.ip(), local.port());
            let all = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Wss];
            Binding::pack(&BindingFields {
                contact: &texts[0],
                contact_params: &texts[1],
                path: &texts[2],
                received: &texts[3],
                call_id: &texts[4],
                user_agent: &texts[5],
                instance: &texts[6],
                attributes: &texts[7],
                cseq,
                q_milli,
                reg_id,
                methods,
                expires_ms,
                modified_ms,
                transport: all[t],
                local,
                conn: ConnId::NONE,
                nat,
            })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            bindings in proptest::collection::vec(arbitrary_binding(), 0..5),
        ) {
            let set = BindingSet { bindings: bindings.into() };
            prop_assert_eq!(decode(&encoded(&set)), Ok(set));
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(mut bytes: Vec<u8>) {
            let _ = decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn a_damaged_record_never_panics(
            bindings in proptest::collection::vec(arbitrary_binding(), 1..4),
            at in any::<proptest::sample::Index>(),
            byte: u8,
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut bytes = encoded(&BindingSet { bindings: bindings.into() });
            let short = &bytes[..cut.index(bytes.len())];
            prop_assert!(decode(short).is_err());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(decode(&[9, 0]), Err(RecordError::Version(9)));
        assert_eq!(decode(&[]), Err(RecordError::Short));
        assert_eq!(decode(&[VERSION, 0, 7]), Err(RecordError::Trailing(1)));
        let many = [VERSION, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(decode(&many), Err(RecordError::Value("number of bindings")));
    }
}
