//! GRUUs (RFC 5627, R-O3): URIs that lead to one phone of an AoR.
//!
//! A public one is the AoR with `;gr=` the instance. A temporary one hides both: its user part is a
//! sealed token of AoR, instance and Call-ID, so it needs no table, works on every router that has
//! the keys, and ends with the registration it was given in.

use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher13;
use viaduct_message::{Uri, uri};

use super::{BindingFields, BindingSet, Registrar, SaveInput, canonical_aor};
use crate::path::{NONCE_BYTES, PathKeys, hex_digit};

/// Begins the user part of a temporary GRUU; key id and token follow.
const TEMPORARY: &[u8] = b"tgruu.";
/// First byte of the plain text.
const VERSION: u8 = 1;

/// Whom a GRUU names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gruu {
    /// Canonical AoR.
    pub aor: Vec<u8>,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// `+sip.instance`, with its angle brackets.
    Instance(Vec<u8>),
    /// Hashes of instance and Call-ID.
    Registration([u8; 16]),
}

/// A `gr` URI of our domain that we have not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoGruu;

/// Reads a Request-URI of one of our domains: `None` where it is no GRUU.
pub fn read(uri: &Uri<'_>, registrar: &Registrar, keys: &PathKeys) -> Result<Option<Gruu>, NoGruu> {
    let Some(value) = uri.param(b"gr") else { return Ok(None) };
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        let mut instance = b"<".to_vec();
        uri::unescape(value, &mut instance);
        instance.push(b'>');
        let mut aor = Vec::with_capacity(64);
        canonical_aor(uri, registrar, &mut aor);
        return Ok(Some(Gruu { aor, wanted: Wanted::Instance(instance) }));
    }
    let token = uri.user.and_then(|user| user.strip_prefix(TEMPORARY)).ok_or(NoGruu)?;
    read_temporary(token, keys).map(Some).ok_or(NoGruu)
}

fn read_temporary(token: &[u8], keys: &PathKeys) -> Option<Gruu> {
    let (id, letters) = token.split_at_checked(2)?;
    let id = u8::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()?;
    let plain = keys.open(id, &URL_SAFE_NO_PAD.decode(letters).ok()?)?;
    let (version, rest) = plain.split_first()?;
    let (hashes, aor) = rest.split_first_chunk()?;
    let wanted = Wanted::Registration(*hashes);
    (*version == VERSION).then(|| Gruu { aor: aor.to_vec(), wanted })
}

impl Gruu {
    /// Does it end with the registration it was given in?
    pub fn is_temporary(&self) -> bool {
        matches!(self.wanted, Wanted::Registration(_))
    }

    /// The instance to look for among the bindings of the AoR. `None`: it was temporary, and its
    /// registration has ended (RFC 5627 4).
    pub fn instance(&self, set: &BindingSet, unix_ms: u64) -> Option<Vec<u8>> {
        let hashes = match &self.wanted {
            Wanted::Instance(instance) => return Some(instance.clone()),
            Wanted::Registration(hashes) => hashes,
        };
        let mut live = set.live(unix_ms).map(super::Binding::fields);
        let found = live.find(|fields| registration(fields) == *hashes);
        found.map(|fields| fields.instance.to_vec())
    }
}

/// Names a registration: what a REGISTER with another Call-ID, or of another phone, has not.
fn registration(fields: &BindingFields<'_>) -> [u8; 16] {
    let hash = |text: &[u8]| {
        let mut hasher = SipHasher13::new();
        hasher.write(text);
        hasher.finish().to_be_bytes()
    };
    let mut hashes = [0; 16];
    let (of_instance, of_call) = hashes.split_at_mut(8);
    of_instance.copy_from_slice(&hash(fields.instance));
    of_call.copy_from_slice(&hash(fields.call_id));
    hashes
}

/// Appends `;pub-gruu="..";temp-gruu=".."` for one binding (RFC 5627 5.3); the temporary one only
/// where there are keys. Nothing for a binding without instance.
pub(super) fn write_params(fields: &BindingFields<'_>, input: &SaveInput<'_>, out: &mut Vec<u8>) {
    let instance = fields.instance.strip_prefix(b"<").and_then(|text| text.strip_suffix(b">"));
    let Some(instance) = instance.filter(|instance| !instance.is_empty()) else { return };
    let at = input.aor.iter().position(|byte| *byte == b'@');
    let Some((user, host)) = at.and_then(|at| input.aor.split_at_checked(at)) else { return };
    out.extend_from_slice(b";pub-gruu=\"sip:");
    write_escaped(user, b"-_.!~*'()&=+$,;?/%", out);
    out.extend_from_slice(host);
    out.extend_from_slice(b";gr=");
    write_escaped(instance, b"-_.!~*'()[]/:&+$", out);
    out.push(b'"');
    let mut plain = vec![VERSION];
    plain.extend_from_slice(&registration(fields));
    plain.extend_from_slice(input.aor);
    let Some((id, sealed)) = input.keys.seal(nonce(input, fields), &plain) else { return };
    out.extend_from_slice(b";temp-gruu=\"sip:");
    out.extend_from_slice(TEMPORARY);
    out.extend_from_slice(&[hex_digit(id >> 4), hex_digit(id & 15)]);
    out.extend_from_slice(URL_SAFE_NO_PAD.encode(sealed).as_bytes());
    out.extend_from_slice(host);
    out.extend_from_slice(b";gr\"");
}

/// Different for each binding of each answer, so that no two temporary GRUUs can be linked.
fn nonce(input: &SaveInput<'_>, fields: &BindingFields<'_>) -> [u8; NONCE_BYTES] {
    let mut hasher = SipHasher13::new_with_keys(input.seed, input.now.unix_ms);
    hasher.write(fields.contact);
    let mut nonce = [0; NONCE_BYTES];
    let (low, high) = nonce.split_at_mut(8);
    low.copy_from_slice(&hasher.finish().to_be_bytes());
    high.copy_from_slice(&(input.now.mono_us as u32).to_be_bytes());
    nonce
}

/// Bytes other than letters, digits and `plain` as percent escapes.
fn write_escaped(text: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || plain.contains(byte) {
            out.push(*byte);
        } else {
            let digit = |nibble| hex_digit(nibble).to_ascii_uppercase();
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Is a URI with `gr` one of the GRUUs of the AoR the REGISTER is about? Temporary ones hide the
/// user, so the domain decides.
pub(super) fn is_of(contact: &Uri<'_>, input: &SaveInput<'_>) -> bool {
    let mut host = Vec::with_capacity(64);
    let bare = Uri { user: None, password: None, ..*contact };
    canonical_aor(&bare, input.registrar, &mut host);
    let own = input.aor.rsplit(|byte| *byte == b'@').next();
    contact.is_sip() && own == Some(&host)
}

#[cfg(test)]
mod tests;
