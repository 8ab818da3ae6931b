//! Location service functions of a run: save, lookup, bindings, remove.

use std::sync::Arc;

use viaduct_message::{HeaderName, Host, Message, Method, NameAddr, Uri};

use super::{EditFault, Reading, Run};
use crate::flow::Flow;
use crate::hook::Phase;
use crate::io::Event;
use crate::location::{AorKey, Change};
use crate::proxy::validate::unsupported_here;
use crate::registrar::{
    self, Binding, BindingFilter, BindingSet, Gruu, LookupFault, LookupFlags, LookupInput,
    Registrar, SaveCode, SaveFlags, SaveInput, SaveRefusal, Target,
};

/// Targets one run may stage.
pub(super) const MAX_TARGETS: usize = 64;
/// Longest attributes of a binding, bytes.
const MAX_ATTRIBUTES_BYTES: usize = 255;
/// Names of tables a run keeps.
const MAX_TABLES: usize = 8;

impl Run {
    /// `save()`: computes what the REGISTER does to the bindings of its To, or of `aor`, and stages
    /// commit and answer. Nothing is stored yet, and nothing at all where it is refused.
    ///
    /// In phase reply it is the forwarded REGISTER that is saved, with the expiry the 2xx at hand
    /// grants; the 2xx goes on when that is stored, and no other answer is made. In the phases
    /// branch and failure there is nothing to save.
    pub fn save(
        &mut self,
        table: &str,
        flags: &SaveFlags,
        aor: Option<&str>,
    ) -> Result<SaveCode, SaveRefusal> {
        let outcome = self.save_outcome(table, flags, aor);
        let answers = !flags.no_reply && self.phase == Phase::Request;
        match outcome {
            Ok((code, headers)) => {
                if answers {
                    self.effects.answer(200, "OK", headers);
                }
                Ok(code)
            }
            Err(refusal) => {
                if answers {
                    let mut headers = refusal.headers.clone();
                    if self.settings.registrar.error_header {
                        for part in ["P-Registrar-Error: ", refusal.reason, "\r\n"] {
                            headers.extend_from_slice(part.as_bytes());
                        }
                    }
                    self.effects.answer(refusal.status, refusal.reason, headers);
                }
                Err(refusal)
            }
        }
    }

    /// What `save` stores with each binding of the REGISTER from now on in this run; without it they
    /// have none, whatever an earlier REGISTER had. At most 255 bytes, no control characters.
    pub fn set_attributes(&mut self, text: &str) -> Result<(), EditFault> {
        if text.len() > MAX_ATTRIBUTES_BYTES {
            return Err(EditFault::TooLarge);
        }
        if text.chars().any(char::is_control) {
            return Err(EditFault::Syntax);
        }
        self.attributes.clear();
        self.attributes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// In phase branch: what was stored with the binding the branch goes to; else what
    /// [`Run::set_attributes`] was given.
    pub fn attributes(&self) -> &[u8] {
        &self.attributes
    }

    /// The REGISTER `save` is about, how it came, and in phase reply the 2xx to it.
    fn register(&self) -> Result<Register<'_>, SaveRefusal> {
        let message = self.message();
        let trusted = self.traits.trusted;
        match (self.phase, &self.original) {
            (Phase::Request, _) => {
                let reading = self.reading.as_ref();
                Ok(Register { message, reading, flow: &self.flow, trusted, granted: None })
            }
            (Phase::Reply, Some(original)) if (200..300).contains(&message.status()) => {
                Ok(Register {
                    message: original.message(),
                    reading: None,
                    flow: &original.flow,
                    trusted: original.trusted,
                    granted: Some(message),
                })
            }
            _ => Err(refuse(500, "No REGISTER To Save")),
        }
    }

    fn registered(&self, aor: &[u8], set: &BindingSet) -> Event {
        let now = self.now.unix_ms;
        let last = set.live(now).map(Binding::expires_ms).max().unwrap_or(now);
        Event::Registered {
            aor: String::from_utf8_lossy(aor).into(),
            contacts: set.live(now).count(),
            expires_s: last.saturating_sub(now) / 1000,
            source: self.flow.remote,
        }
    }

    /// A table's name as a key wants it.
    fn table(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.tables.iter().find(|known| ***known == *name) {
            return Arc::clone(known);
        }
        let table: Arc<str> = Arc::from(name);
        if self.tables.len() < MAX_TABLES {
            self.tables.push(Arc::clone(&table));
        }
        table
    }

    /// What happens, and the header lines of the answer. The change is staged.
    fn save_outcome(
        &mut self,
        table: &str,
        flags: &SaveFlags,
        aor: Option<&str>,
    ) -> Result<(SaveCode, Vec<u8>), SaveRefusal> {
        let register = self.register()?;
        if register.message.method() != Method::Register {
            return Err(refuse(500, "No REGISTER To Save"));
        }
        self.refuse_unknown_options(register.message)?;
        let aor = self.register_aor(&register, aor)?;
        let snapshot = self.location.latest(table, &aor);
        let answer = registrar::save(&SaveInput {
            message: register.message,
            contact: register.reading.and_then(|reading| reading.contact),
            flow: register.flow,
            trusted: register.trusted,
            fix_nat: self.fix_nat,
            attributes: &self.attributes,
            listeners: &self.settings.listeners,
            flags,
            registrar: &self.settings.registrar,
            aor: &aor,
            keys: &self.settings.path_keys,
            granted: register.granted,
            seed: self.seed,
            current: snapshot.set.as_ref(),
            now: self.now,
        })?;
        // A query or a retransmission that shows bindings whose commit is under way waits for it:
        // it commits the same set again, in order. So does a removal of what is not there: only the
        // store knows that it is not, where a write that was given up has reached it all the same.
        let again = snapshot.pending || answer.code == SaveCode::Deleted;
        let before = snapshot.set.as_ref().map_or(0, |set| set.len());
        let fewer = answer.set.as_ref().is_some_and(|set| set.len() < before);
        self.effects.took_back = fewer || answer.code == SaveCode::Deleted;
        let set = answer.set.or_else(|| again.then(|| snapshot.set.unwrap_or_default()));
        if self.settings.events {
            self.effects.registered = set.as_ref().map(|set| self.registered(&aor, set));
        }
        if let Some(set) = set {
            let key = AorKey { table: self.table(table), aor: aor.into_boxed_slice() };
            self.effects.changes.push(Change {
                key,
                based_on: snapshot.version,
                set,
                memory_only: flags.memory_only,
            });
        }
        Ok((answer.code, answer.headers))
    }

    /// RFC 3261 10.3 step 2: a registrar refuses extensions it does not know.
    fn refuse_unknown_options(&self, message: Message<'_>) -> Result<(), SaveRefusal> {
        if message.line(HeaderName::Require).is_none() {
            return Ok(());
        }
        let unsupported = unsupported_here(message, &self.settings);
        if unsupported.is_empty() {
            return Ok(());
        }
        let headers = [b"Unsupported: ", &*unsupported, b"\r\n"].concat();
        Err(SaveRefusal { status: 420, reason: "Bad Extension", headers })
    }

    /// The AoR a REGISTER is about (RFC 3261 10.3 step 5): To, which must be in one of our domains.
    fn register_aor(
        &self,
        register: &Register<'_>,
        aor: Option<&str>,
    ) -> Result<Vec<u8>, SaveRefusal> {
        let message = register.message;
        let registrar = &self.settings.registrar;
        if let Some(text) = aor {
            let aor = aor_of_text(text, registrar).ok_or(refuse(400, "Bad AoR"))?;
            registrar::check_aor(&aor, registrar)?;
            return Ok(aor);
        }
        let to = match register.reading {
            Some(reading) => reading.to.of(message.bytes()),
            None => {
                let to = message.to().and_then(NameAddr::parse_uri);
                to.map_err(|_| refuse(400, "Bad To"))?
            }
        };
        if !to.is_sip() {
            return Err(refuse(400, "To Is No SIP URI")); // RFC 3261 10.2, RFC 4475 3.3.4
        }
        // The AoR belongs to the domain of the Request-URI, or to any of ours where the Request-URI
        // is one of our addresses.
        if !self.settings.is_ours(&to) || !self.is_addressed_to_domain_of(message, &to)? {
            return Err(refuse(404, "Not Found"));
        }
        // As long as the AoR nearly always gets, so that the key takes the very bytes.
        let user = to.user.map_or(0, |user| user.len() + 1);
        let mut out = Vec::with_capacity(user + to.host_text.len());
        registrar::canonical_aor(&to, registrar, &mut out);
        registrar::check_aor(&out, registrar)?;
        Ok(out)
    }

    /// Does the Request-URI name the domain of `to`, or one of our addresses?
    fn is_addressed_to_domain_of(
        &self,
        message: Message<'_>,
        to: &Uri<'_>,
    ) -> Result<bool, SaveRefusal> {
        let text = message.request_uri();
        // `sip:DOMAIN`, as nearly all write it, needs no parsing.
        if text.strip_prefix(b"sip:") == Some(to.host_text) {
            return Ok(true);
        }
        let addressed = Uri::parse(text).map_err(|_| refuse(400, "Bad URI"))?;
        Ok(addressed.host.same(&to.host)
            || matches!(addressed.host, Host::Ip(_))
            || !self.settings.is_our_domain(addressed.host_text))
    }

    /// `lookup()`: stages the bindings of the Request-URI, or of `aor`, as targets; how many.
    pub fn lookup(
        &mut self,
        table: &str,
        flags: &LookupFlags,
        aor: Option<&str>,
    ) -> Result<usize, LookupFault> {
        let before = self.effects.targets.len();
        let table = &self.table(table);
        let earlier = match flags.branch {
            true => self.expand_targets(table, flags),
            false => 0,
        };
        let found = match aor {
            Some(text) => self.targets_of(table, flags, &as_uri(text)),
            None => {
                let uri = self.effects.request_uri.as_deref();
                let uri = uri.unwrap_or(self.message().request_uri());
                self.targets_of(table, flags, uri)
            }
        };
        match found {
            Ok(targets) => self.stage_targets(targets),
            Err(_) if earlier > 0 => {}
            Err(fault) => return Err(fault),
        }
        let kept = if flags.branch { 0 } else { before };
        Ok(self.effects.targets.len().saturating_sub(kept))
    }

    /// `branch`: targets that are AoRs of ours are replaced by their contacts; one without contacts
    /// goes, as it would only lead back to us. How many targets are left.
    fn expand_targets(&mut self, table: &Arc<str>, flags: &LookupFlags) -> usize {
        for target in std::mem::take(&mut self.effects.targets) {
            let uri = Uri::parse(&target.uri);
            let looked_up = target.flow.is_some() || !target.route.is_empty();
            let ours = uri.is_ok_and(|uri| self.settings.is_ours(&uri) && uri.user.is_some());
            if looked_up || !target.destination.is_empty() || !ours {
                self.stage_targets(vec![target]);
            } else if let Ok(targets) = self.targets_of(table, flags, &target.uri) {
                self.stage_targets(targets);
            }
        }
        self.effects.targets.len()
    }

    fn stage_targets(&mut self, targets: Vec<Target>) {
        let room = MAX_TARGETS.saturating_sub(self.effects.targets.len());
        self.effects.targets.extend(targets.into_iter().take(room));
    }

    fn targets_of(
        &self,
        table: &Arc<str>,
        flags: &LookupFlags,
        uri: &[u8],
    ) -> Result<Vec<Target>, LookupFault> {
        let registrar = &self.settings.registrar;
        let uri = Uri::parse(uri).ok().filter(Uri::is_sip).ok_or(LookupFault::NotFound)?;
        let gruu = registrar::gruu::read(&uri, registrar, &self.settings.path_keys)
            .map_err(|_| LookupFault::Gruu)?;
        let key = match &gruu {
            Some(gruu) => gruu.aor.clone(),
            None => {
                let mut key = Vec::with_capacity(64);
                registrar::canonical_aor(&uri, registrar, &mut key);
                key
            }
        };
        let missing = if gruu.as_ref().is_some_and(Gruu::is_temporary) {
            LookupFault::Gruu // its registration has ended, and with it the URI (RFC 5627 4)
        } else {
            LookupFault::NotFound
        };
        let set = self.location.get(table, &key).ok_or(missing)?;
        let unix_ms = self.now.unix_ms;
        let instance = gruu.map(|gruu| gruu.instance(&set, unix_ms).ok_or(missing)).transpose()?;
        registrar::lookup(
            &set,
            &LookupInput {
                method: self.message().method(),
                flags,
                unix_ms,
                instance: instance.as_deref(),
                ours: registrar.path_check_local.then_some(&*self.settings),
                key: Some((table, &key)),
            },
        )
    }

    /// Bindings of an AoR (`user@host` or a SIP URI), expired ones possibly among them.
    pub fn bindings(&self, table: &str, aor: &str) -> Option<Arc<BindingSet>> {
        let key = aor_of_text(aor, &self.settings.registrar)?;
        self.location.get(table, &key)
    }

    /// Stages the removal of the bindings of an AoR that fit. How many go.
    pub fn remove(&mut self, table: &str, aor: &str, filter: &BindingFilter<'_>) -> usize {
        let Some(key) = aor_of_text(aor, &self.settings.registrar) else { return 0 };
        let snapshot = self.location.latest(table, &key);
        let Some(current) = snapshot.set else { return 0 };
        let (set, removed) = registrar::remove_matching(&current, filter);
        if removed > 0 {
            let table = self.table(table);
            self.effects.changes.push(Change {
                key: AorKey { table, aor: key.into_boxed_slice() },
                based_on: snapshot.version,
                set,
                memory_only: false,
            });
        }
        removed
    }
}

/// What `save` works on.
struct Register<'a> {
    message: Message<'a>,
    /// Where the message was read before.
    reading: Option<&'a Reading>,
    flow: &'a Flow,
    trusted: bool,
    granted: Option<Message<'a>>,
}

fn refuse(status: u16, reason: &'static str) -> SaveRefusal {
    SaveRefusal { status, reason, headers: Vec::new() }
}

/// `user@host` as a URI; a SIP URI as it is.
fn as_uri(text: &str) -> Vec<u8> {
    let is_uri = Uri::parse(text.as_bytes()).is_ok_and(|uri| uri.is_sip());
    if is_uri { text.into() } else { format!("sip:{text}").into() }
}

/// Canonical AoR of `user@host` or of a whole SIP URI.
fn aor_of_text(text: &str, registrar: &Registrar) -> Option<Vec<u8>> {
    let text = as_uri(text);
    let uri = Uri::parse(&text).ok()?;
    let mut out = Vec::with_capacity(64);
    registrar::canonical_aor(&uri, registrar, &mut out);
    Some(out)
}
