//! The location service: who can be reached where.
//!
//! Needs the grant `usrloc = { TABLE = "read" }`, or `"write"` for [`save`] and [`remove`].

use crate::bindings::viaduct::policy::usrloc as host;
use crate::message::EditError;

pub use host::{Binding, Filter, LookupError, Refusal, SaveCode, SaveError};

/// Does what the REGISTER says to the contacts of its To: adds, refreshes, removes or lists them.
/// The commit and the answer are staged; turn the result into the verdict:
///
/// ```no_run
/// # use viaduct_guest::prelude::*;
/// fn register() -> Verdict {
///     usrloc::save("location", "path-lazy, path-received").into()
/// }
/// ```
///
/// `flags` come in either spelling, names with commas or letters: `path-strict, path-received` or
/// `p2v`. They are listed in `policies/README.md`; unknown ones are [`SaveError::BadFlags`].
/// The phone gets its 200 when the change is stored.
///
/// In `on_reply` it saves the REGISTER that was forwarded, with the expiry the 2xx grants, and
/// stages no answer: go on with [`ReplyVerdict::Forward`](crate::ReplyVerdict::Forward), and the
/// phone gets the 2xx when the binding is stored.
pub fn save(table: &str, flags: &str) -> Result<SaveCode, SaveError> {
    host::save(table, flags, None)
}

/// [`save`] for another AoR than To's: `user@host` or a SIP URI.
pub fn save_as(table: &str, flags: &str, aor: &str) -> Result<SaveCode, SaveError> {
    host::save(table, flags, Some(aor))
}

/// Text that [`save`] stores with each binding of this REGISTER, as `attr` in OpenSIPS and
/// `xavp_contact` in Kamailio: what later calls to the phone should know. Without it they have none,
/// whatever an earlier REGISTER had. [`attributes`] and [`bindings`] give it back; phones never see
/// it. At most 255 bytes, no control characters.
///
/// ```no_run
/// # use viaduct_guest::prelude::*;
/// # fn register(site: &str) -> Verdict {
/// if usrloc::set_attributes(&format!("site={site}")).is_err() {
///     return reply(500, "");
/// }
/// usrloc::save("location", "").into()
/// # }
/// ```
pub fn set_attributes(text: &str) -> Result<(), EditError> {
    host::set_attributes(text)
}

/// In `on_branch`: what was stored with the binding the branch goes to; empty: nothing.
pub fn attributes() -> String {
    host::attributes()
}

/// Stages the contacts bound to the Request-URI as targets, each with its Path as Route set and its
/// own q; how many. Then [`relay`](crate::relay).
///
/// A Request-URI that is a GRUU (RFC 5627) leads to its one phone. A phone that registered several
/// flows is one target; the others are tried where one fails (RFC 5626 7).
///
/// `flags` in either spelling, `method-filtering` or `m`; empty: none. They are listed in
/// `policies/README.md`.
pub fn lookup(table: &str, flags: &str) -> Result<u32, LookupError> {
    host::lookup(table, flags, None)
}

/// [`lookup`] of another AoR than the Request-URI. Called again, it adds to the targets.
pub fn lookup_as(table: &str, flags: &str, aor: &str) -> Result<u32, LookupError> {
    host::lookup(table, flags, Some(aor))
}

/// Which contacts of an AoR; the default fits all:
///
/// ```no_run
/// # use viaduct_guest::prelude::*;
/// let phone = usrloc::Filter {
///     instance: Some("urn:uuid:00000000-0000-1000-8000-aabbccddeeff".into()),
///     ..usrloc::any()
/// };
/// usrloc::remove_where("location", "alice@example.com", &phone);
/// ```
pub fn any() -> Filter {
    Filter {
        contact: None,
        next_hop: None,
        instance: None,
        call_id: None,
        source_ip: None,
    }
}

/// Live contacts of an AoR (`user@host` or a SIP URI); at most 64.
pub fn bindings(table: &str, aor: &str) -> Vec<Binding> {
    host::bindings(table, aor, &any())
}

/// [`bindings`] that fit.
pub fn bindings_where(table: &str, aor: &str, filter: &Filter) -> Vec<Binding> {
    host::bindings(table, aor, filter)
}

/// Has the AoR a live contact behind NAT?
pub fn is_behind_nat(table: &str, aor: &str) -> bool {
    bindings(table, aor).iter().any(|binding| binding.nat)
}

/// Has the AoR any live contact?
pub fn is_registered(table: &str, aor: &str) -> bool {
    host::is_registered(table, aor, &any())
}

/// Has the AoR any live contact that fits?
pub fn is_registered_where(table: &str, aor: &str, filter: &Filter) -> bool {
    host::is_registered(table, aor, filter)
}

/// Stages the removal of all contacts of an AoR; how many.
pub fn remove(table: &str, aor: &str) -> u32 {
    host::remove(table, aor, &any())
}

/// Stages the removal of one contact of an AoR; 1, or 0 where it is not there.
pub fn remove_contact(table: &str, aor: &str, contact: &str) -> u32 {
    let filter = Filter {
        contact: Some(contact.to_owned()),
        ..any()
    };
    host::remove(table, aor, &filter)
}

/// Stages the removal of the contacts of an AoR that fit; how many.
pub fn remove_where(table: &str, aor: &str, filter: &Filter) -> u32 {
    host::remove(table, aor, filter)
}
