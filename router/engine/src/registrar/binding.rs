//! A binding: one contact of an AoR (RFC 3261 10.2, sip-behaviour 1.7.3).

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Home;
use crate::flow::{ConnId, Transport};

/// The plain form of a binding, for building and for stores. [`Binding`] is the compact form kept
/// in memory (at most 700 bytes each, all included).
#[derive(Clone, Debug, PartialEq)]
pub struct BindingFields<'a> {
    /// Contact URI as registered, without brackets.
    pub contact: &'a [u8],
    /// Other Contact parameters to give back (all but `expires` and `q`), as written, without a
    /// leading `;`.
    pub contact_params: &'a [u8],
    /// Path vector as it is to stand in a Route header: values joined by `, `. Empty: none.
    pub path: &'a [u8],
    /// URI the REGISTER really came from (`sip:IP:PORT[;transport=..]`), where it matters. Empty:
    /// none.
    pub received: &'a [u8],
    /// Call-ID of the last REGISTER.
    pub call_id: &'a [u8],
    /// User-Agent of the last REGISTER, cut to 255 bytes.
    pub user_agent: &'a [u8],
    /// `+sip.instance` with its angle brackets, without quotes. Empty: none.
    pub instance: &'a [u8],
    /// What the policy stored with it, see [`crate::Run::set_attributes`]. Empty: nothing.
    pub attributes: &'a [u8],
    /// CSeq number of the last REGISTER.
    pub cseq: u32,
    /// Priority in thousandths, 0 to 1000; `None` where not given.
    pub q_milli: Option<u16>,
    /// `reg-id`; 0 where none.
    pub reg_id: u32,
    /// Methods the UA allows, one bit per [`viaduct_message::Method`] discriminant; `None`: all.
    pub methods: Option<u32>,
    /// When it expires, milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// When it was last refreshed, milliseconds since 1970 UTC.
    pub modified_ms: u64,
    /// Transport of the REGISTER.
    pub transport: Transport,
    /// Our address that received the REGISTER.
    pub local: SocketAddr,
    /// Its connection, where it came by stream. Means nothing after a restart, and nothing of a
    /// binding that has a [`Binding::home`].
    pub conn: ConnId,
    /// Behind NAT: pings wanted, `received` was set by the policy.
    pub nat: bool,
}

/// Texts kept one after another: contact, its parameters, path, received, Call-ID, User-Agent,
/// attributes.
const TEXTS: usize = 7;
/// Index of the Contact parameters among the texts.
const PARAMS: usize = 1;
/// `q_milli` of a binding without `q`.
const NO_Q: u16 = u16::MAX;
/// `ping_us` of a binding whose contact has answered no ping.
const NO_PING: u32 = u32::MAX;
/// `methods` of a binding whose UA did not say: every bit, one more than methods have.
const ALL_METHODS: u32 = u32::MAX;

/// A binding in memory: all texts in one shared allocation, so that a copy of a set whose other
/// bindings stay as they are copies no text.
#[derive(Clone)]
pub struct Binding {
    text: Arc<[u8]>,
    /// Where the phone registered, where that is another router.
    home: Option<Arc<Home>>,
    local: SocketAddr,
    /// A connection of `home`, where there is one.
    conn: ConnId,
    expires_ms: u64,
    modified_ms: u64,
    cseq: u32,
    reg_id: u32,
    methods: u32,
    /// Not among the fields: it is measured, and ends with the process.
    ping_us: u32,
    ends: [u16; TEXTS],
    /// Start and end of the instance, usually inside the Contact parameters.
    instance: (u16, u16),
    q_milli: u16,
    transport: Transport,
    nat: bool,
}

/// The REGISTER a binding is of: what tells the next one from an older one and from its own
/// retransmission (RFC 3261 10.3 step 7).
pub(crate) struct LastRegister<'a> {
    pub(crate) call_id: &'a [u8],
    pub(crate) cseq: u32,
    pub(crate) modified_ms: u64,
}

/// Where the texts lie in the joined bytes.
struct Layout {
    ends: [u16; TEXTS],
    instance: (u16, u16),
}

/// A text is cut where the joined bytes would pass what 16 bits can address.
fn append(joined: &mut SmallVec<[u8; 768]>, text: &[u8]) -> u16 {
    let room = usize::from(u16::MAX).saturating_sub(joined.len());
    joined.extend_from_slice(text.get(..room).unwrap_or(text));
    u16::try_from(joined.len()).unwrap_or(u16::MAX)
}

/// Offset of `part` in `whole`, by address where it is a slice of it, else by content.
fn offset_in(whole: &[u8], part: &[u8]) -> Option<usize> {
    let offset = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if offset.checked_add(part.len()).is_some_and(|end| end <= whole.len()) {
        return Some(offset);
    }
    whole.windows(part.len()).position(|window| window == part)
}

impl BindingFields<'_> {
    /// In the order in which they are joined.
    fn texts(&self) -> [&[u8]; TEXTS] {
        [
            self.contact,
            self.contact_params,
            self.path,
            self.received,
            self.call_id,
            self.user_agent,
            self.attributes,
        ]
    }
}

fn lay_out(fields: &BindingFields<'_>, joined: &mut SmallVec<[u8; 768]>) -> Layout {
    let ends = fields.texts().map(|text| append(joined, text));
    let instance = if fields.instance.is_empty() {
        (0, 0)
    } else if let Some(offset) = offset_in(fields.contact_params, fields.instance) {
        let limit = usize::from(ends.get(PARAMS).copied().unwrap_or(0));
        let start = fields.contact.len().saturating_add(offset).min(limit);
        let end = start.saturating_add(fields.instance.len()).min(limit);
        (start as u16, end as u16)
    } else {
        let start = u16::try_from(joined.len()).unwrap_or(u16::MAX);
        (start, append(joined, fields.instance))
    };
    Layout { ends, instance }
}

impl Binding {
    /// Packs the fields. All texts together are cut at 65,535 bytes (callers limit them before).
    pub fn pack(fields: &BindingFields<'_>) -> Binding {
        let mut joined = SmallVec::new();
        let Layout { ends, instance } = lay_out(fields, &mut joined);
        Binding {
            text: Arc::from(joined.as_slice()),
            home: None,
            local: fields.local,
            conn: fields.conn,
            expires_ms: fields.expires_ms,
            modified_ms: fields.modified_ms,
            cseq: fields.cseq,
            reg_id: fields.reg_id,
            methods: fields.methods.unwrap_or(ALL_METHODS),
            ping_us: NO_PING,
            ends,
            instance,
            q_milli: fields.q_milli.unwrap_or(NO_Q),
            transport: fields.transport,
            nat: fields.nat,
        }
    }

    /// Makes it what the fields say. The text stays, shared as it is, where it is the same: the
    /// usual refresh changes times and CSeq only. The ping latency stays in any case. In place,
    /// since to copy a binding costs more than to change one.
    pub(crate) fn refresh(&mut self, fields: &BindingFields<'_>) {
        let kept = self.has_texts_of(fields);
        // All by name, so that a field added later is not forgotten here.
        let Binding {
            text,
            home,
            local,
            conn,
            expires_ms,
            modified_ms,
            cseq,
            reg_id,
            methods,
            ping_us: _,
            ends,
            instance,
            q_milli,
            transport,
            nat,
        } = self;
        if !kept {
            let mut joined = SmallVec::new();
            let layout = lay_out(fields, &mut joined);
            (*ends, *instance) = (layout.ends, layout.instance);
            *text = Arc::from(joined.as_slice());
        }
        *home = None;
        *local = fields.local;
        *conn = fields.conn;
        *expires_ms = fields.expires_ms;
        *modified_ms = fields.modified_ms;
        *cseq = fields.cseq;
        *reg_id = fields.reg_id;
        *methods = fields.methods.unwrap_or(ALL_METHODS);
        *q_milli = fields.q_milli.unwrap_or(NO_Q);
        *transport = fields.transport;
        *nat = fields.nat;
    }

    fn has_texts_of(&self, fields: &BindingFields<'_>) -> bool {
        let mut start = 0;
        let same = |(end, text): (u16, &[u8])| {
            let own = self.slice(start, end);
            start = end;
            own == text
        };
        self.ends.into_iter().zip(fields.texts()).all(same)
            && self.slice(self.instance.0, self.instance.1) == fields.instance
    }

    fn slice(&self, start: u16, end: u16) -> &[u8] {
        self.text.get(usize::from(start)..usize::from(end)).unwrap_or_default()
    }

    /// All fields.
    pub fn fields(&self) -> BindingFields<'_> {
        let [contact, params, path, received, call_id, user_agent, attributes] = self.ends;
        BindingFields {
            contact: self.slice(0, contact),
            contact_params: self.slice(contact, params),
            path: self.slice(params, path),
            received: self.slice(path, received),
            call_id: self.slice(received, call_id),
            user_agent: self.slice(call_id, user_agent),
            attributes: self.slice(user_agent, attributes),
            instance: self.slice(self.instance.0, self.instance.1),
            cseq: self.cseq,
            q_milli: self.q_milli(),
            reg_id: self.reg_id,
            methods: (self.methods != ALL_METHODS).then_some(self.methods),
            expires_ms: self.expires_ms,
            modified_ms: self.modified_ms,
            transport: self.transport,
            local: self.local,
            // The number of another router's connection may be one of ours too.
            conn: if self.home.is_some() { ConnId::NONE } else { self.conn },
            nat: self.nat,
        }
    }

    /// The same binding, of a phone that registered at another router, by that router's `conn`.
    #[must_use]
    pub fn at(mut self, home: Arc<Home>, conn: ConnId) -> Binding {
        (self.home, self.conn) = (Some(home), conn);
        self
    }

    /// The router the phone registered at; `None`: this one.
    pub fn home(&self) -> Option<&Arc<Home>> {
        self.home.as_ref()
    }

    /// The connection at [`Binding::home`], for stores.
    pub fn home_conn(&self) -> ConnId {
        self.conn
    }

    /// Contact URI as registered.
    pub fn contact(&self) -> &[u8] {
        let [contact, ..] = self.ends;
        self.slice(0, contact)
    }

    // Single fields, for those who look at one or two: all of them are a good part of a refresh.

    pub(crate) fn contact_params(&self) -> &[u8] {
        let [contact, params, ..] = self.ends;
        self.slice(contact, params)
    }

    pub(crate) fn received(&self) -> &[u8] {
        let [_, _, path, received, ..] = self.ends;
        self.slice(path, received)
    }

    pub(crate) fn last_register(&self) -> LastRegister<'_> {
        let [.., received, call_id, _, _] = self.ends;
        let call_id = self.slice(received, call_id);
        LastRegister { call_id, cseq: self.cseq, modified_ms: self.modified_ms }
    }

    pub(crate) fn q_milli(&self) -> Option<u16> {
        (self.q_milli != NO_Q).then_some(self.q_milli)
    }

    /// How long its contact took to answer the last ping, microseconds; `None` where it has
    /// answered none since the start.
    pub fn ping_us(&self) -> Option<u32> {
        (self.ping_us != NO_PING).then_some(self.ping_us)
    }

    /// The same with another ping latency.
    pub fn with_ping_us(&self, ping_us: Option<u32>) -> Binding {
        Binding { ping_us: ping_us.unwrap_or(NO_PING), ..self.clone() }
    }

    /// When it expires, milliseconds since 1970 UTC.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Still valid at `unix_ms`?
    pub fn is_live(&self, unix_ms: u64) -> bool {
        self.expires_ms > unix_ms
    }

    /// Is it the same but for CSeq, times and ping latency, which change with every REGISTER?
    pub fn is_refresh_of(&self, earlier: &Binding) -> bool {
        let facts = |of: &Binding| (of.local, of.conn, of.reg_id, of.methods, of.q_milli, of.nat);
        let texts = |of: &Binding| (of.ends, of.instance);
        // The allocation is nearly always the same one.
        (Arc::ptr_eq(&self.text, &earlier.text) || self.text == earlier.text)
            && texts(self) == texts(earlier)
            && facts(self) == facts(earlier)
            && self.transport == earlier.transport
            && self.home == earlier.home
    }

    /// Bytes it occupies, heap included (the text's two reference counts, too).
    pub fn memory_bytes(&self) -> usize {
        size_of::<Binding>() + 2 * size_of::<usize>() + self.text.len()
    }
}

impl PartialEq for Binding {
    fn eq(&self, other: &Binding) -> bool {
        self.fields() == other.fields()
            && self.ping_us == other.ping_us
            && self.home == other.home
            && self.conn == other.conn
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = self.fields();
        f.debug_struct("Binding")
            .field("contact", &String::from_utf8_lossy(fields.contact))
            .field("path", &String::from_utf8_lossy(fields.path))
            .field("received", &String::from_utf8_lossy(fields.received))
            .field("call_id", &String::from_utf8_lossy(fields.call_id))
            .field("cseq", &fields.cseq)
            .field("expires_ms", &fields.expires_ms)
            .finish_non_exhaustive()
    }
}

/// Bindings of one AoR. Nearly all have one, which lies where the set does.
pub type Bindings = SmallVec<[Binding; 1]>;

/// All bindings of one AoR, in order of insertion. Immutable once shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BindingSet {
    /// The bindings.
    pub bindings: Bindings,
}

impl BindingSet {
    /// When the first of them expires, milliseconds since 1970; `None` where empty.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.bindings.iter().map(|binding| binding.expires_ms).min()
    }

    /// The same without those expired at `unix_ms`.
    pub fn live(&self, unix_ms: u64) -> impl Iterator<Item = &Binding> {
        self.bindings.iter().filter(move |b| b.is_live(unix_ms))
    }

    /// No bindings at all?
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// How many bindings, expired ones included.
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Bytes it occupies behind an `Arc`, all bindings and reference counts included.
    pub fn memory_bytes(&self) -> usize {
        let bindings: usize = self.bindings.iter().map(Binding::memory_bytes).sum();
        let here = if self.bindings.spilled() { 0 } else { size_of_val(&*self.bindings) };
        size_of::<BindingSet>() + 2 * size_of::<usize>() + bindings.saturating_sub(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields<'a>(params: &'a [u8], instance: &'a [u8]) -> BindingFields<'a> {
        BindingFields {
            contact: b"sip:alice@192.0.2.4:5060",
            contact_params: params,
            path: b"<sip:p2.example;lr>, <sip:p1.example;lr>",
            received: b"sip:198.51.100.7:40000",
            call_id: b"call-1@ua",
            user_agent: b"phone/1.0",
            instance,
            attributes: b"site=7",
            cseq: 7,
            q_milli: Some(500),
            reg_id: 0,
            methods: Some(0b101),
            expires_ms: 2_000,
            modified_ms: 1_000,
            transport: Transport::Tcp,
            local: "192.0.2.1:5060".parse().unwrap(),
            conn: ConnId::new(2, 9),
            nat: true,
        }
    }

    #[test]
    fn fields_come_back_as_packed() {
        let params = b"+sip.instance=\"<urn:uuid:1>\";x=y";
        let instance = params.get(15..27).unwrap();
        for fields in [fields(params, instance), fields(b"x=y", b"<urn:uuid:1>"), fields(b"", b"")]
        {
            assert_eq!(Binding::pack(&fields).fields(), fields);
        }
    }

    #[test]
    fn an_instance_inside_the_parameters_is_stored_once() {
        let params = b"+sip.instance=\"<urn:uuid:1>\"";
        let inside = Binding::pack(&fields(params, b"<urn:uuid:1>"));
        let without = Binding::pack(&fields(params, b""));
        assert_eq!(inside.memory_bytes(), without.memory_bytes());
        assert_eq!(inside.fields().instance, b"<urn:uuid:1>");
    }

    #[test]
    fn a_usual_binding_takes_at_most_500_bytes() {
        let call_id = [b'c'; 300 - 24 - 9];
        let mut fields = fields(b"", b"");
        (fields.path, fields.received, fields.call_id) = (b"", b"", &call_id);
        fields.attributes = b"";
        let binding = Binding::pack(&fields);
        assert_eq!(binding.text.len(), 300);
        assert!(binding.memory_bytes() <= 500, "{}", binding.memory_bytes());
    }

    #[test]
    fn liveness_ends_with_the_millisecond_of_expiry() {
        let binding = Binding::pack(&fields(b"", b""));
        assert!(binding.is_live(1_999));
        assert!(!binding.is_live(2_000));
        let set = BindingSet { bindings: vec![binding].into() };
        assert_eq!(set.next_expiry_ms(), Some(2_000));
        assert_eq!(set.live(2_000).count(), 0);
        assert_eq!(BindingSet::default().next_expiry_ms(), None);
    }

    #[test]
    fn a_refresh_with_the_same_texts_shares_them() {
        let first = Binding::pack(&fields(b"x=y", b""));
        let mut later = fields(b"x=y", b"");
        later.cseq = 8;
        let mut second = first.clone();
        second.refresh(&later);
        assert!(Arc::ptr_eq(&first.text, &second.text));
        assert_eq!(second, Binding::pack(&later));
        later.user_agent = b"phone/2.0";
        second.refresh(&later);
        assert_eq!(second, Binding::pack(&later));
        assert_eq!(first, Binding::pack(&fields(b"x=y", b"")));
    }

    #[test]
    fn a_refresh_leaves_nothing_of_the_earlier_fields() {
        let home = Home { node: "b".into(), boot: 1, address: "sip:b".into() };
        let mut binding = Binding::pack(&fields(b"x=y", b"")).at(Arc::new(home), ConnId(4));
        let bare = BindingFields {
            contact: b"sip:h",
            path: b"",
            received: b"",
            call_id: b"c",
            user_agent: b"",
            attributes: b"",
            cseq: 8,
            q_milli: None,
            reg_id: 2,
            methods: None,
            expires_ms: 4_000,
            modified_ms: 3_000,
            transport: Transport::Udp,
            local: "192.0.2.2:5061".parse().unwrap(),
            conn: ConnId::NONE,
            nat: false,
            ..fields(b"", b"<urn:uuid:2>")
        };
        binding.refresh(&bare);
        assert_eq!(binding, Binding::pack(&bare));
        assert_eq!(binding.fields(), bare);
    }

    #[test]
    fn a_refresh_is_told_from_every_other_change() {
        let first = Binding::pack(&fields(b"x=y", b""));
        let plain = || fields(b"x=y", b"");
        let refreshed = BindingFields { cseq: 8, expires_ms: 9_000, modified_ms: 8_000, ..plain() };
        let refreshed = Binding::pack(&refreshed).with_ping_us(Some(3));
        assert!(refreshed.is_refresh_of(&first) && first.is_refresh_of(&refreshed));
        let home = Home { node: "b".into(), boot: 1, address: "sip:b".into() };
        let others = [
            BindingFields { contact: b"sip:other@h", ..plain() },
            BindingFields { contact_params: b"x=z", ..plain() },
            BindingFields { path: b"<sip:p2;lr>", ..plain() },
            BindingFields { call_id: b"other", ..plain() },
            BindingFields { attributes: b"x", ..plain() },
            BindingFields { instance: b"<urn:1>", ..plain() },
            BindingFields { q_milli: Some(9), ..plain() },
            BindingFields { reg_id: 9, ..plain() },
            BindingFields { methods: Some(1), ..plain() },
            BindingFields { transport: Transport::Wss, ..plain() },
            BindingFields { local: "192.0.2.99:5060".parse().unwrap(), ..plain() },
            BindingFields { conn: ConnId(99), ..plain() },
            BindingFields { nat: !plain().nat, ..plain() },
        ];
        let others = others.map(|fields| Binding::pack(&fields));
        let moved = Binding::pack(&plain()).at(Arc::new(home), ConnId::NONE);
        for other in others.iter().chain([&moved]) {
            assert!(!other.is_refresh_of(&first), "{other:?}");
        }
    }

    #[test]
    fn a_ping_latency_outlives_a_refresh() {
        let first = Binding::pack(&fields(b"", b""));
        assert_eq!(first.ping_us(), None);
        let pinged = first.with_ping_us(Some(1_500));
        assert_ne!(first, pinged);
        let mut refreshed = pinged.clone();
        refreshed.refresh(&fields(b"", b""));
        assert_eq!(refreshed.ping_us(), Some(1_500));
        assert_eq!(Binding::pack(&pinged.fields()).ping_us(), None);
    }

    proptest! {
        #[test]
        fn texts_too_long_are_cut_and_never_panic(
            contact in 0usize..70_000, path in 0usize..70_000, instance in 0usize..300,
        ) {
            let (contact, path) = (vec![b'a'; contact], vec![b'b'; path]);
            let instance = vec![b'i'; instance];
            let mut fields = fields(b"p", &instance);
            (fields.contact, fields.path) = (&contact, &path);
            let binding = Binding::pack(&fields);
            let back = binding.fields();
            prop_assert!(contact.starts_with(back.contact));
            prop_assert!(path.starts_with(back.path));
            prop_assert!(instance.starts_with(back.instance));
            if contact.len() + path.len() < 65_000 {
                prop_assert_eq!(back, fields);
            }
        }
    }
}
