//! The location service. Each call needs a grant for its table.

use viaduct_engine::registrar::{self, BindingFilter, LookupFault, SaveCode as Saved};

use super::{edited, or_empty, text};
use crate::bindings::policy::viaduct::policy::types::EditError;
use crate::bindings::policy::viaduct::policy::usrloc::{
    Binding, Filter, Host, LookupError, Refusal, SaveCode, SaveError,
};
use crate::guest::Guest;
use crate::manifest::{Access, Interface};

/// Most bindings handed to a policy.
const MAX_BINDINGS: usize = 64;

impl Host for Guest {
    fn save(
        &mut self,
        table: String,
        flags: String,
        aor: Option<String>,
    ) -> wasmtime::Result<Result<SaveCode, SaveError>> {
        let texts = [&*table, &*flags, or_empty(&aor)];
        let (run, cache) =
            self.call_table("usrloc.save", Interface::Usrloc, &table, Access::Write, &texts)?;
        let flags = match cache.save(&flags) {
            Ok(flags) => flags,
            Err(error) => return Ok(Err(SaveError::BadFlags(error.to_string()))),
        };
        Ok(match run.save(&table, flags, aor.as_deref()) {
            Ok(Saved::Inserted) => Ok(SaveCode::Inserted),
            Ok(Saved::Updated) => Ok(SaveCode::Updated),
            Ok(Saved::Deleted) => Ok(SaveCode::Deleted),
            Ok(Saved::Listed) => Ok(SaveCode::Listed),
            Err(refusal) => Err(SaveError::Refused(Refusal {
                status: refusal.status,
                reason: refusal.reason.to_owned(),
            })),
        })
    }

    fn lookup(
        &mut self,
        table: String,
        flags: String,
        aor: Option<String>,
    ) -> wasmtime::Result<Result<u32, LookupError>> {
        let texts = [&*table, &*flags, or_empty(&aor)];
        let (run, cache) =
            self.call_table("usrloc.lookup", Interface::Usrloc, &table, Access::Read, &texts)?;
        let flags = match cache.lookup(&flags) {
            Ok(flags) => flags,
            Err(error) => return Ok(Err(LookupError::BadFlags(error.to_string()))),
        };
        Ok(match run.lookup(&table, flags, aor.as_deref()) {
            Ok(count) => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
            Err(LookupFault::NotFound) => Err(LookupError::NotFound),
            Err(LookupFault::Method) => Err(LookupError::MethodNotAllowed),
            Err(LookupFault::Gruu) => Err(LookupError::NoSuchGruu),
        })
    }

    fn set_attributes(&mut self, text: String) -> wasmtime::Result<Result<(), EditError>> {
        let set = self.call("usrloc.set-attributes", &[&text])?.set_attributes(&text);
        Ok(edited(self, "usrloc.set-attributes", set))
    }

    fn attributes(&mut self) -> wasmtime::Result<String> {
        Ok(text(self.call("usrloc.attributes", &[])?.attributes()))
    }

    fn bindings(
        &mut self,
        table: String,
        aor: String,
        filter: Filter,
    ) -> wasmtime::Result<Vec<Binding>> {
        let (run, _) = self.call_table(
            "usrloc.bindings",
            Interface::Usrloc,
            &table,
            Access::Read,
            &texts(&table, &aor, &filter),
        )?;
        let Some(filter) = lift(&filter) else { return Ok(Vec::new()) };
        let Some(set) = run.bindings(&table, &aor) else { return Ok(Vec::new()) };
        let unix_ms = run.now().unix_ms;
        let fitting = set.live(unix_ms).filter(|binding| filter.fits(binding));
        Ok(fitting.take(MAX_BINDINGS).map(|binding| lower(binding, unix_ms)).collect())
    }

    fn is_registered(
        &mut self,
        table: String,
        aor: String,
        filter: Filter,
    ) -> wasmtime::Result<bool> {
        let (run, _) = self.call_table(
            "usrloc.is-registered",
            Interface::Usrloc,
            &table,
            Access::Read,
            &texts(&table, &aor, &filter),
        )?;
        let Some(filter) = lift(&filter) else { return Ok(false) };
        let set = run.bindings(&table, &aor);
        Ok(set.is_some_and(|set| set.live(run.now().unix_ms).any(|b| filter.fits(b))))
    }

    fn remove(&mut self, table: String, aor: String, filter: Filter) -> wasmtime::Result<u32> {
        let (run, _) = self.call_table(
            "usrloc.remove",
            Interface::Usrloc,
            &table,
            Access::Write,
            &texts(&table, &aor, &filter),
        )?;
        let Some(filter) = lift(&filter) else { return Ok(0) };
        let removed = run.remove(&table, &aor, &filter);
        Ok(u32::try_from(removed).unwrap_or(u32::MAX))
    }
}

/// All text arguments, for the length check.
fn texts<'a>(table: &'a str, aor: &'a str, filter: &'a Filter) -> [&'a str; 7] {
    let Filter { contact, next_hop, instance, call_id, source_ip } = filter;
    let [contact, next_hop, instance, call_id, source_ip] =
        [contact, next_hop, instance, call_id, source_ip].map(or_empty);
    [table, aor, contact, next_hop, instance, call_id, source_ip]
}

/// `None` where no binding can fit: the source is no address.
fn lift(filter: &Filter) -> Option<BindingFilter<'_>> {
    fn bytes(text: &Option<String>) -> Option<&[u8]> {
        text.as_deref().map(str::as_bytes)
    }
    let source = filter.source_ip.as_deref().map(|text| text.parse().ok());
    Some(BindingFilter {
        contact: bytes(&filter.contact),
        next_hop: bytes(&filter.next_hop),
        instance: bytes(&filter.instance),
        call_id: bytes(&filter.call_id),
        source: match source {
            Some(source) => Some(source?),
            None => None,
        },
    })
}

fn lower(binding: &registrar::Binding, unix_ms: u64) -> Binding {
    let fields = binding.fields();
    let left_s = fields.expires_ms.saturating_sub(unix_ms).div_ceil(1000);
    Binding {
        contact: text(fields.contact),
        path: text(fields.path),
        received: text(fields.received),
        expires_s: u32::try_from(left_s).unwrap_or(u32::MAX),
        q_milli: fields.q_milli.unwrap_or(1000),
        user_agent: text(fields.user_agent),
        params: text(fields.contact_params),
        instance: text(fields.instance),
        reg_id: fields.reg_id,
        call_id: text(fields.call_id),
        cseq: fields.cseq,
        socket: format!("{}:{}", fields.transport.param_name(), fields.local),
        nat: fields.nat,
        attributes: text(fields.attributes),
        latency_us: binding.ping_us(),
    }
}
