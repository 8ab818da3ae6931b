//! `save()`: what one REGISTER does to the bindings of its AoR (RFC 3261 10.3 steps 6 to 8).
//!
//! `request` reads what concerns the whole REGISTER and refuses it before anything is computed,
//! `apply` computes the new bindings on a copy (so all or nothing, R-G1), `answer` writes the 200.

use std::sync::Arc;

use viaduct_message::Message;

use super::{BindingSet, PathMode, SaveFlags};
use crate::flow::Flow;
use crate::settings::Listener;
use crate::time::Now;

mod answer;
mod apply;
mod request;
#[cfg(test)]
mod tests;

pub(super) use request::method_bit;

/// Registrar parameters (sip-behaviour 2.3).
#[derive(Clone, Debug)]
pub struct Registrar {
    /// Expiry where neither Contact nor Expires says one, seconds.
    pub default_expires_s: u32,
    /// Lower bound in seconds; 0: none.
    pub min_expires_s: u32,
    /// Answer 423 + Min-Expires below the bound (RFC 3261 10.3 step 7) instead of raising silently.
    pub reject_short_expires: bool,
    /// Upper bound in seconds; 0: none.
    pub max_expires_s: u32,
    /// Bindings an AoR may have; 0: the hard cap of 64 alone.
    pub max_contacts: u16,
    /// Longest Contact URI, bytes.
    pub max_contact_bytes: u16,
    /// Longest AoR, bytes.
    pub max_aor_bytes: u16,
    /// Most Path values (R-P15: at least 16).
    pub max_path_values: u8,
    /// Longest stored Path in bytes (R-P15: at least 2048).
    pub max_path_bytes: u16,
    /// Where the flags name no Path mode.
    pub path_mode: PathMode,
    /// AoR user part without case.
    pub fold_user: bool,
    /// Retry-After of 503, seconds; 0: none.
    pub retry_after_s: u32,
    /// Same Call-ID and same CSeq within this time is a retransmission: 200, no update
    /// (sip-behaviour 2.1).
    pub cseq_delay_ms: u32,
    /// Accept an equal CSeq later as an update (R-S6).
    pub allow_dup_cseq: bool,
}

impl Default for Registrar {
    fn default() -> Self {
        Registrar {
            default_expires_s: 3600,
            min_expires_s: 60,
            reject_short_expires: false,
            max_expires_s: 0,
            max_contacts: 0,
            max_contact_bytes: 512,
            max_aor_bytes: 256,
            max_path_values: 16,
            max_path_bytes: 2048,
            path_mode: PathMode::Lazy,
            fold_user: false,
            retry_after_s: 0,
            cseq_delay_ms: 20_000,
            allow_dup_cseq: true,
        }
    }
}

/// Everything `save()` looks at.
#[derive(Clone, Copy)]
pub struct SaveInput<'a> {
    /// The REGISTER.
    pub message: Message<'a>,
    /// How it came.
    pub flow: Flow,
    /// From a configured trusted peer: `path-received` and `socket-header` are honoured (R-P17,
    /// R-S2).
    pub trusted: bool,
    /// The policy asked to store where the request came from as `received` (fix-nated-register).
    pub fix_nat: bool,
    /// Flags of the call.
    pub flags: &'a SaveFlags,
    /// Parameters.
    pub registrar: &'a Registrar,
    /// Our listeners: what the socket header may name (R-S2).
    pub listeners: &'a [Listener],
    /// The bindings it starts from.
    pub current: Option<&'a Arc<BindingSet>>,
    /// Time.
    pub now: Now,
}

/// What happened (R-S4, Kamailio's success values).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SaveCode {
    /// At least one new binding.
    Inserted = 1,
    /// Only refreshes (or a recognised retransmission).
    Updated = 2,
    /// Only removals.
    Deleted = 3,
    /// A query: nothing changed.
    Listed = 4,
}

/// A REGISTER that is accepted.
#[derive(Clone, Debug)]
pub struct SaveAnswer {
    /// What happened.
    pub code: SaveCode,
    /// The new set; `None` where nothing changes (query, retransmission).
    pub set: Option<Arc<BindingSet>>,
    /// Header lines of the 200: Contact with `expires` each, Path where due (R-P16), Date.
    pub headers: Vec<u8>,
}

/// A REGISTER that is refused: nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveRefusal {
    /// 400, 403, 404, 420, 423, 500 or 503.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
    /// Header lines of the answer (Unsupported, Min-Expires, Retry-After, ...).
    pub headers: Vec<u8>,
}

impl SaveRefusal {
    pub(super) fn new(status: u16, reason: &'static str) -> SaveRefusal {
        SaveRefusal { status, reason, headers: Vec::new() }
    }

    fn with_header(mut self, name: &str, value: impl std::fmt::Display) -> SaveRefusal {
        self.headers.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        self
    }
}

/// Bindings an AoR may have whatever the configuration says.
pub const MAX_CONTACTS: usize = 64;

/// Computes the outcome of a REGISTER. Changes nothing: the caller commits `set`.
///
/// `Require` options other than `path` are the caller's business (they concern the whole request),
/// as is whose the AoR is.
pub fn save(input: &SaveInput<'_>) -> Result<SaveAnswer, SaveRefusal> {
    let request = request::Request::read(input)?;
    let outcome = apply::apply(input, &request)?;
    let headers = answer::headers(input, &request, &outcome);
    let set = outcome.changed.then(|| {
        Arc::new(BindingSet { bindings: outcome.bindings.into_iter().map(|b| b.binding).collect() })
    });
    Ok(SaveAnswer { code: outcome.code, set, headers })
}
