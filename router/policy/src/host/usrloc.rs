//! The location service. Each call needs a grant for its table.

use viaduct_engine::registrar::{BindingFields, LookupFault, SaveCode as Saved};

use super::{or_empty, text};
use crate::bindings::policy::viaduct::policy::usrloc::{
    Binding, Host, LookupError, Refusal, SaveCode, SaveError,
};
use crate::guest::Guest;
use crate::manifest::Access;

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
        let (run, cache) = self.call_table(&table, Access::Write, &texts)?;
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
        let (run, cache) = self.call_table(&table, Access::Read, &texts)?;
        let Ok(flags) = cache.lookup(&flags) else { return Ok(Err(LookupError::BadFlags)) };
        Ok(match run.lookup(&table, flags, aor.as_deref()) {
            Ok(count) => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
            Err(LookupFault::NotFound) => Err(LookupError::NotFound),
            Err(LookupFault::Method) => Err(LookupError::MethodNotAllowed),
        })
    }

    fn bindings(&mut self, table: String, aor: String) -> wasmtime::Result<Vec<Binding>> {
        let (run, _) = self.call_table(&table, Access::Read, &[&table, &aor])?;
        let Some(set) = run.bindings(&table, &aor) else { return Ok(Vec::new()) };
        let unix_ms = run.now().unix_ms;
        let live = set.live(unix_ms).take(MAX_BINDINGS);
        Ok(live.map(|binding| lower(&binding.fields(), unix_ms)).collect())
    }

    fn is_registered(&mut self, table: String, aor: String) -> wasmtime::Result<bool> {
        let (run, _) = self.call_table(&table, Access::Read, &[&table, &aor])?;
        let set = run.bindings(&table, &aor);
        Ok(set.is_some_and(|set| set.live(run.now().unix_ms).next().is_some()))
    }

    fn remove(
        &mut self,
        table: String,
        aor: String,
        contact: Option<String>,
    ) -> wasmtime::Result<u32> {
        let texts = [&*table, &*aor, or_empty(&contact)];
        let (run, _) = self.call_table(&table, Access::Write, &texts)?;
        let removed = run.remove(&table, &aor, contact.as_deref());
        Ok(u32::try_from(removed).unwrap_or(u32::MAX))
    }
}

fn lower(fields: &BindingFields<'_>, unix_ms: u64) -> Binding {
    let left_s = fields.expires_ms.saturating_sub(unix_ms).div_ceil(1000);
    Binding {
        contact: text(fields.contact),
        path: text(fields.path),
        received: text(fields.received),
        expires_s: u32::try_from(left_s).unwrap_or(u32::MAX),
        q_milli: fields.q_milli.unwrap_or(1000),
        user_agent: text(fields.user_agent),
    }
}
