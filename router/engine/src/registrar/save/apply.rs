//! RFC 3261 10.3 steps 6 and 7 on a copy of the bindings.

use smallvec::SmallVec;
use viaduct_message::{Contacts, Fault, Method, NameAddr, Params, Uri, header, uri};

use super::expiry::{self, bounded_expires_s};
use super::outbound::{Outbound, reg_id};
use super::request::{Expires, MALFORMED_EXPIRES_S, Request, method_bit, unfold};
use super::{MAX_CONTACTS, SaveCode, SaveInput, SaveRefusal};
use crate::registrar::binding::{Binding, BindingFields, Bindings};
use crate::registrar::flags::Matching;

/// Contact values one REGISTER may have: enough to replace every binding of a full AoR.
const MAX_CONTACT_VALUES: usize = 2 * MAX_CONTACTS;

/// The bindings as the REGISTER leaves them, computed where they are to stay: a binding that is
/// copied once more costs more than its refresh.
pub(super) struct Entries<'e> {
    pub(super) bindings: &'e mut Bindings,
    /// Of each, in their order: named by this REGISTER.
    pub(super) named: SmallVec<[bool; 16]>,
}

/// What it did to them.
pub(super) struct Outcome {
    pub(super) code: SaveCode,
    /// Differs from what was there.
    pub(super) changed: bool,
    /// A flow was registered (RFC 5626).
    pub(super) by_flow: bool,
}

impl Entries<'_> {
    /// Begins with those that are live.
    fn begin(&mut self, current: &[Binding], unix_ms: u64) {
        self.bindings.reserve_exact(current.len());
        for binding in current.iter().filter(|binding| binding.is_live(unix_ms)) {
            self.bindings.push(binding.clone());
            self.named.push(false);
        }
    }

    /// Each with whether this REGISTER names it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Binding, bool)> {
        self.bindings.iter().zip(self.named.iter().copied())
    }

    fn push(&mut self, binding: Binding) {
        self.bindings.push(binding);
        self.named.push(true);
    }

    fn name(&mut self, index: usize) {
        if let Some(named) = self.named.get_mut(index) {
            *named = true;
        }
    }

    fn remove(&mut self, index: usize) {
        self.bindings.remove(index);
        self.named.remove(index);
    }
}

/// One Contact value, read.
struct Contact<'a> {
    uri: &'a [u8],
    params: SmallVec<[u8; 128]>,
    instance: &'a [u8],
    /// 0: none.
    reg_id: u32,
    q_milli: Option<u16>,
    methods: Option<u32>,
    expires_s: u32,
}

#[derive(Default)]
struct Counts {
    inserted: usize,
    updated: usize,
    removed: usize,
    repeated: usize,
}

/// Puts the bindings into `entries`, which is empty, as the REGISTER leaves them.
pub(super) fn apply(
    input: &SaveInput<'_>,
    request: &Request<'_>,
    entries: &mut Entries<'_>,
) -> Result<Outcome, SaveRefusal> {
    let current = input.current.map(|set| &*set.bindings).unwrap_or_default();
    entries.begin(current, input.now.unix_ms);
    let (counts, outbound) = (Counts::default(), Outbound::default());
    if let Some(place) = input.contact {
        let mut sheet = Sheet { input, request, entries, counts, outbound };
        let bytes = input.message.bytes();
        sheet.take(place.uri(bytes), place.params(bytes))?;
        return sheet.finish();
    }
    match input.message.contacts() {
        Contacts::None => Ok(Outcome { code: SaveCode::Listed, changed: false, by_flow: false }),
        Contacts::Star => remove_all(request, entries),
        Contacts::List(values) => {
            Sheet { input, request, entries, counts, outbound }.take_all(values)
        }
    }
}

fn bad_contact(_: Fault) -> SaveRefusal {
    SaveRefusal::new(400, "Bad Contact")
}

/// Step 6: `*` removes everything, if Expires is 0 and no binding of the same Call-ID has this CSeq
/// or a higher one.
fn remove_all(request: &Request<'_>, entries: &mut Entries<'_>) -> Result<Outcome, SaveRefusal> {
    if request.expires != Expires::Seconds(0) {
        return Err(SaveRefusal::new(400, "Contact * Without Expires 0"));
    }
    for binding in &*entries.bindings {
        let fields = binding.last_register();
        if fields.call_id == request.call_id && request.cseq <= fields.cseq {
            return Err(out_of_order());
        }
    }
    let changed = !entries.bindings.is_empty();
    entries.bindings.clear();
    entries.named.clear();
    Ok(Outcome { code: SaveCode::Deleted, changed, by_flow: false })
}

/// R-S5: RFC 3261 names no code for a CSeq that is not higher; 400 as others do.
fn out_of_order() -> SaveRefusal {
    SaveRefusal::new(400, "CSeq Out Of Order")
}

impl<'a> Contact<'a> {
    /// A contact that has no parameters.
    fn new(uri: &'a [u8], input: &SaveInput<'_>, request: &Request<'_>) -> Contact<'a> {
        Contact {
            uri,
            params: SmallVec::new(),
            instance: b"",
            reg_id: 0,
            q_milli: input.registrar.default_q_milli,
            methods: request.methods,
            expires_s: match request.expires {
                Expires::Absent => input.registrar.default_expires_s,
                Expires::Malformed => MALFORMED_EXPIRES_S,
                Expires::Seconds(seconds) => seconds,
            },
        }
    }

    /// Checks the URI, and reads the parameters into it.
    fn read(&mut self, params: Params<'a>, input: &SaveInput<'_>) -> Result<(), SaveRefusal> {
        let uri = self.uri;
        // Reading a URI is a good part of what a refresh costs, and this one was read when it was
        // bound first.
        let mut known = input.current.into_iter().flat_map(|set| &*set.bindings);
        if !known.any(|binding| binding.contact() == uri) {
            acceptable(&Uri::parse(uri).map_err(bad_contact)?, input)?;
        }
        let limit = usize::from(input.registrar.max_contact_bytes);
        if uri.len() > limit {
            return Err(SaveRefusal::new(400, "Contact Too Long"));
        }
        for param in params.all() {
            self.take_param(param.name, param.value, param.text)?;
        }
        // What is given back is bounded like the URI itself; a usual set is under 300 bytes.
        if self.params.len() > limit.max(1024) {
            return Err(SaveRefusal::new(400, "Contact Too Long"));
        }
        self.expires_s = match &input.granted {
            Some(response) => expiry::granted_s(*response, uri),
            None => bounded_expires_s(self.expires_s, input)?,
        };
        Ok(())
    }

    fn take_param(
        &mut self,
        name: &[u8],
        value: Option<&'a [u8]>,
        text: &[u8],
    ) -> Result<(), SaveRefusal> {
        if name.eq_ignore_ascii_case(b"expires") {
            // RFC 3261 10.2.1.1: malformed counts as 3600.
            self.expires_s = value.and_then(seconds).unwrap_or(MALFORMED_EXPIRES_S);
            return Ok(());
        }
        if name.eq_ignore_ascii_case(b"q") {
            let q = value.and_then(q_milli);
            self.q_milli = Some(q.ok_or_else(|| SaveRefusal::new(400, "Bad q Value"))?);
            return Ok(());
        }
        // Ours to give, whatever a phone repeats (RFC 5627 5.2).
        if name.eq_ignore_ascii_case(b"pub-gruu") || name.eq_ignore_ascii_case(b"temp-gruu") {
            return Ok(());
        }
        if name.eq_ignore_ascii_case(b"reg-id") {
            self.reg_id = reg_id(value)?;
        } else if name.eq_ignore_ascii_case(b"+sip.instance") {
            self.instance = value.map(unquote).unwrap_or_default();
        } else if name.eq_ignore_ascii_case(b"methods") {
            self.methods = value.map(|value| method_list(unquote(value))).or(self.methods);
        }
        if !self.params.is_empty() {
            self.params.push(b';');
        }
        self.params.extend_from_slice(&unfold(text));
        Ok(())
    }
}

/// RFC 5627 5.1: a contact that is a GRUU of its own AoR leads to itself.
fn acceptable(contact: &Uri<'_>, input: &SaveInput<'_>) -> Result<(), SaveRefusal> {
    if contact.param(b"gr").is_some() && super::super::gruu::is_of(contact, input) {
        return Err(SaveRefusal::new(403, "Contact Is A GRUU"));
    }
    Ok(())
}

fn unquote(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// RFC 3840 9: a quoted, comma-separated list.
fn method_list(value: &[u8]) -> u32 {
    let tokens = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tokens.fold(0, |bits, token| bits | method_bit(Method::from_token(token)))
}

/// Digits only, capped at 2^32-1; `None` where malformed.
pub(super) fn seconds(value: &[u8]) -> Option<u32> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u32, digit: &u8| {
        sum.saturating_mul(10).saturating_add(u32::from(digit.saturating_sub(b'0')))
    };
    Some(value.iter().fold(0, add))
}

/// `qvalue` of RFC 3261 25.1 in thousandths: 0 to 1 with up to three decimals.
fn q_milli(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole] => (*whole, &[][..]),
        [whole, b'.', decimals @ ..] => (*whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |index| decimals.get(index).map_or(0, |digit: &u8| u16::from(digit - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match (whole, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

/// The bindings while the contacts are applied one after another.
struct Sheet<'a, 'e> {
    input: &'a SaveInput<'a>,
    request: &'a Request<'a>,
    entries: &'a mut Entries<'e>,
    counts: Counts,
    outbound: Outbound,
}

impl<'a> Sheet<'a, '_> {
    /// Applies all Contact values; of a REGISTER that was forwarded the first alone.
    fn take_all(mut self, values: header::Values<'a>) -> Result<Outcome, SaveRefusal> {
        let most = if self.input.granted.is_some() { 1 } else { usize::MAX };
        for (index, value) in values.take(most).enumerate() {
            if index >= MAX_CONTACT_VALUES {
                return Err(SaveRefusal::new(400, "Too Many Contact Values"));
            }
            let address = NameAddr::parse(value.bytes).map_err(bad_contact)?;
            self.take(address.uri, address.params)?;
        }
        self.finish()
    }

    /// Reads one Contact value and applies it.
    fn take(&mut self, uri: &'a [u8], params: Params<'a>) -> Result<(), SaveRefusal> {
        let mut contact = Contact::new(uri, self.input, self.request);
        contact.read(params, self.input)?;
        let wanted = if contact.instance.is_empty() { 0 } else { contact.reg_id };
        let bound = contact.expires_s > 0;
        contact.reg_id = self.outbound.key(wanted, bound, self.input, &self.request.path)?;
        self.apply(&contact)
    }

    fn apply(&mut self, contact: &Contact<'_>) -> Result<(), SaveRefusal> {
        let found = self.entries.bindings.iter().position(|bound| self.matches(bound, contact));
        let Some(index) = found else {
            if contact.expires_s > 0 {
                let fields = Sheet::fields(self.input, self.request, &self.outbound, contact);
                self.entries.push(Binding::pack(&fields));
                self.counts.inserted += 1;
            }
            return Ok(());
        };
        if !self.is_newer(index)? {
            self.counts.repeated += 1;
            self.entries.name(index);
            return Ok(());
        }
        if contact.expires_s == 0 {
            self.entries.remove(index);
            self.counts.removed += 1;
            return Ok(());
        }
        if let Some(binding) = self.entries.bindings.get_mut(index) {
            binding.refresh(&Sheet::fields(self.input, self.request, &self.outbound, contact));
            self.entries.name(index);
            self.counts.updated += 1;
        }
        Ok(())
    }

    fn matches(&self, binding: &Binding, contact: &Contact<'_>) -> bool {
        let bound = binding.contact();
        if contact.reg_id != 0 {
            // RFC 5626 6: instance and reg-id are the key, the URI is not compared.
            let fields = binding.fields();
            return fields.instance == contact.instance && fields.reg_id == contact.reg_id;
        }
        let as_texts = self.input.registrar.match_texts; // R-U1
        let same =
            || if as_texts { bound == contact.uri } else { uri::equivalent(bound, contact.uri) };
        match &self.input.flags.matching {
            None | Some(Matching::Contact) => same(),
            Some(Matching::ContactAndCallId) => {
                binding.last_register().call_id == self.request.call_id && same()
            }
            Some(Matching::Param(name)) => {
                let value = |text| {
                    let uri = Uri::parse(text).ok()?;
                    uri.param(name.as_bytes()).map(Option::unwrap_or_default)
                };
                match (value(bound), value(contact.uri)) {
                    (Some(a), Some(b)) => a == b,
                    _ => same(),
                }
            }
        }
    }

    /// May this REGISTER change the binding? `false`: it is a retransmission, leave the binding
    /// alone. A higher CSeq is needed for the same Call-ID only.
    fn is_newer(&self, index: usize) -> Result<bool, SaveRefusal> {
        let Some((binding, named)) = self.entries.iter().nth(index) else { return Ok(true) };
        let fields = binding.last_register();
        // Two values of one request that name one contact: the later counts.
        if named || fields.call_id != self.request.call_id {
            return Ok(true);
        }
        let registrar = self.input.registrar;
        let age_ms = self.input.now.unix_ms.saturating_sub(fields.modified_ms);
        match self.request.cseq.cmp(&fields.cseq) {
            std::cmp::Ordering::Greater => Ok(true),
            std::cmp::Ordering::Less => Err(out_of_order()),
            std::cmp::Ordering::Equal if age_ms <= u64::from(registrar.cseq_delay_ms) => Ok(false),
            // R-S6
            std::cmp::Ordering::Equal if registrar.allow_dup_cseq => Ok(true),
            std::cmp::Ordering::Equal => Err(out_of_order()),
        }
    }

    /// The binding the contact asks for.
    fn fields<'f>(
        input: &'f SaveInput<'_>,
        request: &'f Request<'_>,
        outbound: &'f Outbound,
        contact: &'f Contact<'_>,
    ) -> BindingFields<'f> {
        let now_ms = input.now.unix_ms;
        let flow = outbound.received().filter(|_| contact.reg_id != 0);
        BindingFields {
            contact: contact.uri,
            contact_params: &contact.params,
            path: &request.path,
            received: flow.unwrap_or(&request.received),
            call_id: request.call_id,
            user_agent: &request.user_agent,
            instance: contact.instance,
            attributes: input.attributes,
            cseq: request.cseq,
            q_milli: contact.q_milli,
            reg_id: contact.reg_id,
            methods: contact.methods,
            expires_ms: now_ms.saturating_add(u64::from(contact.expires_s).saturating_mul(1000)),
            modified_ms: now_ms,
            transport: request.transport,
            local: request.local,
            conn: request.conn,
            nat: request.nat || flow.is_some(),
        }
    }

    fn finish(&mut self) -> Result<Outcome, SaveRefusal> {
        self.outbound.check()?;
        self.enforce_limit()?;
        let counts = &self.counts;
        let changed = counts.inserted + counts.updated + counts.removed > 0;
        let code = if counts.inserted > 0 {
            SaveCode::Inserted
        } else if counts.updated + counts.repeated > 0 {
            SaveCode::Updated
        } else {
            SaveCode::Deleted
        };
        let by_flow = self.outbound.is_used();
        Ok(Outcome { code, changed, by_flow })
    }

    /// A refresh is never refused, also where the limit has been lowered meanwhile.
    fn enforce_limit(&mut self) -> Result<(), SaveRefusal> {
        if self.counts.inserted == 0 {
            return Ok(());
        }
        let registrar = self.input.registrar;
        let limit = self.input.flags.max_contacts.unwrap_or(registrar.max_contacts);
        let limit = if limit == 0 { MAX_CONTACTS } else { usize::from(limit).min(MAX_CONTACTS) };
        while self.entries.bindings.len() > limit {
            // R-S7: the one longest not refreshed goes, never one this REGISTER names.
            let others = self.entries.iter().enumerate().filter(|(_, (_, named))| !named);
            let oldest = others.min_by_key(|(_, (binding, _))| binding.last_register().modified_ms);
            match oldest.map(|(index, _)| index) {
                Some(index) if self.input.flags.force => {
                    self.entries.remove(index);
                    self.counts.removed += 1;
                }
                _ => return Err(too_many(registrar.retry_after_s)),
            }
        }
        Ok(())
    }
}

fn too_many(retry_after_s: u32) -> SaveRefusal {
    let refusal = SaveRefusal::new(503, "Too Many Contacts");
    if retry_after_s == 0 {
        return refusal;
    }
    refusal.with_header("Retry-After", retry_after_s)
}
