//! Location service functions of a run: save, lookup, bindings, remove.

use std::sync::Arc;

use viaduct_message::{HeaderName, Host, Uri, uri};

use super::Run;
use crate::io::Event;
use crate::location::{AorKey, Change};
use crate::registrar::{
    self, BindingSet, LookupFault, LookupFlags, SaveCode, SaveFlags, SaveInput, SaveRefusal,
};

/// Targets one run may stage.
pub(super) const MAX_TARGETS: usize = 64;
/// Names of tables a run keeps.
const MAX_TABLES: usize = 8;

impl Run {
    /// `save()`: computes what the REGISTER does to the bindings of its To, or of `aor`, and stages
    /// commit and answer. Nothing is stored yet, and nothing at all where it is refused.
    pub fn save(
        &mut self,
        table: &str,
        flags: &SaveFlags,
        aor: Option<&str>,
    ) -> Result<SaveCode, SaveRefusal> {
        let outcome = self.save_outcome(table, flags, aor);
        match outcome {
            Ok((code, headers, change)) => {
                if self.settings.events {
                    self.effects.registered = change.as_ref().map(|c| self.registered(c));
                }
                self.effects.changes.extend(change);
                if !flags.no_reply {
                    self.effects.answer(200, "OK", headers);
                }
                Ok(code)
            }
            Err(refusal) => {
                if !flags.no_reply {
                    let headers = refusal.headers.clone();
                    self.effects.answer(refusal.status, refusal.reason, headers);
                }
                Err(refusal)
            }
        }
    }

    fn registered(&self, change: &Change) -> Event {
        let now = self.now.unix_ms;
        let last = change.set.live(now).map(|b| b.fields().expires_ms).max().unwrap_or(now);
        Event::Registered {
            aor: String::from_utf8_lossy(&change.key.aor).into(),
            contacts: change.set.live(now).count(),
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

    fn save_outcome(
        &mut self,
        table: &str,
        flags: &SaveFlags,
        aor: Option<&str>,
    ) -> Result<(SaveCode, Vec<u8>, Option<Change>), SaveRefusal> {
        self.refuse_unknown_options()?;
        let aor = self.register_aor(aor)?;
        let snapshot = self.location.latest(table, &aor);
        let answer = registrar::save(&SaveInput {
            message: self.message(),
            flow: self.flow,
            trusted: self.traits.trusted,
            fix_nat: self.fix_nat,
            listeners: &self.settings.listeners,
            flags,
            registrar: &self.settings.registrar,
            current: snapshot.set.as_ref(),
            now: self.now,
        })?;
        // A query or a retransmission that shows bindings whose commit is under way waits for it:
        // it commits the same set again, in order.
        let set = answer.set.or(if snapshot.pending { snapshot.set } else { None });
        let change = set.map(|set| Change {
            key: AorKey { table: self.table(table), aor: aor.as_slice().into() },
            based_on: snapshot.version,
            set,
            memory_only: flags.memory_only,
        });
        Ok((answer.code, answer.headers, change))
    }

    /// RFC 3261 10.3 step 2: a registrar refuses extensions it does not know. `path` is `save`'s.
    fn refuse_unknown_options(&self) -> Result<(), SaveRefusal> {
        const KNOWN: [&[u8]; 1] = [b"path"];
        let mut headers = Vec::new();
        for option in self.message().values(HeaderName::Require) {
            if !KNOWN.iter().any(|known| option.bytes.eq_ignore_ascii_case(known)) {
                headers.extend_from_slice(b"Unsupported: ");
                headers.extend_from_slice(option.bytes);
                headers.extend_from_slice(b"\r\n");
            }
        }
        if headers.is_empty() {
            return Ok(());
        }
        Err(SaveRefusal { status: 420, reason: "Bad Extension", headers })
    }

    /// The AoR a REGISTER is about (RFC 3261 10.3 step 5): To, which must be in one of our domains.
    fn register_aor(&self, aor: Option<&str>) -> Result<Vec<u8>, SaveRefusal> {
        let refuse = |status, reason| SaveRefusal { status, reason, headers: Vec::new() };
        let fold = self.settings.registrar.fold_user;
        if let Some(text) = aor {
            return aor_of_text(text, fold).ok_or(refuse(400, "Bad AoR"));
        }
        let to = self.message().to().map_err(|_| refuse(400, "Bad To"))?;
        let to = to.parse_uri().map_err(|_| refuse(400, "Bad To"))?;
        if !to.is_sip() {
            return Err(refuse(400, "To Is No SIP URI")); // RFC 3261 10.2, RFC 4475 3.3.4
        }
        // The AoR belongs to the domain of the Request-URI, or to any of ours where the Request-URI
        // is one of our addresses.
        if !self.settings.is_ours(&to) || !self.is_addressed_to_domain_of(&to)? {
            return Err(refuse(404, "Not Found"));
        }
        let mut out = Vec::with_capacity(64);
        uri::write_aor(&to, fold, &mut out);
        registrar::check_aor(&out, &self.settings.registrar)?;
        Ok(out)
    }

    /// Does the Request-URI name the domain of `to`, or one of our addresses?
    fn is_addressed_to_domain_of(&self, to: &Uri<'_>) -> Result<bool, SaveRefusal> {
        let text = self.message().request_uri();
        // `sip:DOMAIN`, as nearly all write it, needs no parsing.
        if text.strip_prefix(b"sip:") == Some(to.host_text) {
            return Ok(true);
        }
        let bad = |_| SaveRefusal { status: 400, reason: "Bad URI", headers: Vec::new() };
        let addressed = Uri::parse(text).map_err(bad)?;
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
        let fold = self.settings.registrar.fold_user;
        let key = match aor {
            Some(text) => aor_of_text(text, fold),
            None => {
                let uri = self.effects.request_uri.as_deref();
                aor_of_uri(uri.unwrap_or(self.message().request_uri()), fold)
            }
        };
        let key = key.ok_or(LookupFault::NotFound)?;
        let set = self.location.get(table, &key).ok_or(LookupFault::NotFound)?;
        let method = self.message().method();
        let targets = registrar::lookup(&set, method, flags, self.now.unix_ms)?;
        let before = self.effects.targets.len();
        let room = MAX_TARGETS.saturating_sub(before);
        self.effects.targets.extend(targets.into_iter().take(room));
        Ok(self.effects.targets.len().saturating_sub(before))
    }

    /// Bindings of an AoR (`user@host` or a SIP URI), expired ones possibly among them.
    pub fn bindings(&self, table: &str, aor: &str) -> Option<Arc<BindingSet>> {
        let key = aor_of_text(aor, self.settings.registrar.fold_user)?;
        self.location.get(table, &key)
    }

    /// Stages the removal of all bindings of an AoR, or of one contact. How many go.
    pub fn remove(&mut self, table: &str, aor: &str, contact: Option<&str>) -> usize {
        let Some(key) = aor_of_text(aor, self.settings.registrar.fold_user) else { return 0 };
        let snapshot = self.location.latest(table, &key);
        let Some(current) = snapshot.set else { return 0 };
        let (set, removed) = registrar::remove(&current, contact.map(str::as_bytes));
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

/// Canonical AoR of `user@host` or of a whole SIP URI.
fn aor_of_text(text: &str, fold_user: bool) -> Option<Vec<u8>> {
    if text.as_bytes().contains(&b':')
        && let Some(aor) = aor_of_uri(text.as_bytes(), fold_user)
    {
        return Some(aor);
    }
    aor_of_uri(format!("sip:{text}").as_bytes(), fold_user)
}

fn aor_of_uri(text: &[u8], fold_user: bool) -> Option<Vec<u8>> {
    let uri = Uri::parse(text).ok().filter(Uri::is_sip)?;
    let mut out = Vec::with_capacity(64);
    uri::write_aor(&uri, fold_user, &mut out);
    Some(out)
}
