//! `save()`: what one REGISTER does to the bindings of its AoR (RFC 3261 10.3 steps 6 to 8).
//!
//! `request` reads what concerns the whole REGISTER and refuses it before anything is computed,
//! `apply` computes the new bindings on a copy (so all or nothing, R-G1), `answer` writes the 200.

use std::sync::Arc;

use smallvec::SmallVec;
use viaduct_message::{ContactPlace, Message};

use super::{BindingSet, PathMode, SaveFlags};
use crate::flow::Flow;
use crate::path::PathKeys;
use crate::settings::Listener;
use crate::time::Now;

mod answer;
mod apply;
mod expiry;
mod outbound;
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
    /// Add or take away up to so many seconds of each expiry, within the bounds: spreads storms of
    /// refreshes.
    pub expires_deviation_s: u32,
    /// Shorten each expiry by up to so many percent, 0 to 90.
    pub expires_shorten_percent: u8,
    /// q in thousandths where a Contact says none.
    pub default_q_milli: Option<u16>,
    /// Longest user and host part of an AoR, bytes.
    pub max_user_bytes: u16,
    /// See `max_user_bytes`.
    pub max_domain_bytes: u16,
    /// Stripped from the host of AoRs (`sip.`), lower case; empty: nothing.
    pub realm_prefix: Box<str>,
    /// Contacts match as texts instead of by URI comparison (R-U1).
    pub match_texts: bool,
    /// Look-ups skip a topmost Path value that names us (R-P19).
    pub path_check_local: bool,
    /// The 420 for Path repeats the Path it refuses, as OpenSIPS and Kamailio do.
    pub path_in_420: bool,
    /// RFC 5626.
    pub outbound: OutboundMode,
    /// Flow-Timer told to phones that register a flow with us directly, seconds; 0: none.
    pub flow_timer_s: u32,
    /// Give GRUUs to phones that ask (RFC 5627).
    pub gruu: bool,
    /// Value of Service-Route in each 200 (RFC 3608); empty: none.
    pub service_route: Box<str>,
    /// Say in `P-Registrar-Error` why a REGISTER is refused.
    pub error_header: bool,
    /// Show the stored `received` with each Contact of the 200.
    pub show_received: bool,
}

/// What is done with RFC 5626 (sip-behaviour 4.1-4.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundMode {
    /// `reg-id` means nothing; who requires outbound gets 420.
    Off,
    /// Used by those who can.
    #[default]
    Supported,
    /// Others get 421.
    Required,
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
            expires_deviation_s: 0,
            expires_shorten_percent: 0,
            default_q_milli: None,
            max_user_bytes: 256,
            max_domain_bytes: 255,
            realm_prefix: "".into(),
            match_texts: false,
            path_check_local: false,
            path_in_420: false,
            outbound: OutboundMode::Supported,
            flow_timer_s: 0,
            gruu: true,
            service_route: "".into(),
            error_header: true,
            show_received: false,
        }
    }
}

/// Everything `save()` looks at.
#[derive(Clone, Copy)]
pub struct SaveInput<'a> {
    /// The REGISTER.
    pub message: Message<'a>,
    /// Its Contact, where it has been read before and is the only one.
    pub contact: Option<ContactPlace>,
    /// How it came.
    pub flow: &'a Flow,
    /// From a configured trusted peer: `path-received` and `socket-header` are honoured (R-P17,
    /// R-S2).
    pub trusted: bool,
    /// The policy asked to store where the request came from as `received` (fix-nated-register).
    pub fix_nat: bool,
    /// What the policy stores with each of its bindings; empty: nothing.
    pub attributes: &'a [u8],
    /// Flags of the call.
    pub flags: &'a SaveFlags,
    /// Parameters.
    pub registrar: &'a Registrar,
    /// Our listeners: what the socket header may name (R-S2).
    pub listeners: &'a [Listener],
    /// Canonical AoR whose bindings they are.
    pub aor: &'a [u8],
    /// Keys that make temporary GRUUs.
    pub keys: &'a PathKeys,
    /// The 2xx of the registrar behind us: `save` in a reply route, where what *it* granted counts,
    /// and only the first Contact is looked at.
    pub granted: Option<Message<'a>>,
    /// Random number of this run.
    pub seed: u64,
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
    /// Header lines of the 200: Contact with `expires` each, Path where due (R-P16), those of RFC
    /// 5626, 5627 and 3608 where due, Date.
    pub headers: Vec<u8>,
}

/// A REGISTER that is refused: nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveRefusal {
    /// 400, 403, 404, 420, 421, 423, 439, 500 or 503.
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

impl SaveRefusal {
    /// The received Path, as others repeat it in a 420; RFC 3327 4 has Path in 2xx only.
    fn with_path(mut self, message: Message<'_>) -> SaveRefusal {
        for line in message.lines_of(viaduct_message::HeaderName::Path) {
            self.headers.extend_from_slice(line.whole.of(message.bytes()));
        }
        self
    }
}

/// Bindings an AoR may have whatever the configuration says.
pub const MAX_CONTACTS: usize = 64;

/// Computes the outcome of a REGISTER. Changes nothing: the caller commits `set`.
///
/// `Require` options other than `path` and `outbound` are the caller's business (they concern the
/// whole request), as is whose the AoR is.
pub fn save(input: &SaveInput<'_>) -> Result<SaveAnswer, SaveRefusal> {
    let mut request = request::Request::new(input);
    request.read(input)?;
    // Not `Arc::new`, which moves what it is given.
    let mut set = Arc::<BindingSet>::default();
    let bindings = &mut Arc::make_mut(&mut set).bindings;
    let mut entries = apply::Entries { bindings, named: SmallVec::new() };
    let outcome = apply::apply(input, &request, &mut entries)?;
    let headers = answer::headers(input, &request, (&outcome, &entries));
    // Room for those that have expired, or gone, is not kept as long as the set is.
    entries.bindings.shrink_to_fit();
    Ok(SaveAnswer { code: outcome.code, set: outcome.changed.then_some(set), headers })
}
