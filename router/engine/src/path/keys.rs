//! Keys that sign Path values, and nonces.

use std::net::SocketAddr;
use std::sync::Arc;

use aes_gcm_siv::aead::{Aead, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::flow::Transport;

/// Bytes of the MAC that are written: 96 bits, which is 16 letters of base64 without a remainder,
/// so that no two texts mean the same signature.
pub(crate) const MAC_BYTES: usize = 12;
const MAC_LETTERS: usize = 16;
/// Shortest secret, bytes.
const SECRET_BYTES: usize = 16;
/// Set apart from all else the keys may ever sign.
const PURPOSE: &[u8] = b"viaduct path 1\0";
/// What the keys for sealing are derived by.
const SEAL_PURPOSE: &[u8] = b"viaduct seal 1\0";
/// Bytes of the nonce in front of what is sealed. AES-GCM-SIV stays safe where one comes twice (RFC
/// 8452 1), so it need not come from the system's generator.
pub(crate) const NONCE_BYTES: usize = 12;

/// Keys for signing what we write into Path, Route and nonces. Shared by a cluster, kept over
/// restarts.
#[derive(Clone, Default)]
pub struct PathKeys {
    /// The first signs, all verify.
    keys: Arc<[Key]>,
}

struct Key {
    id: u8,
    /// Keyed already: cloning it saves the two blocks of the key's set-up.
    mac: Hmac<Sha256>,
    cipher: Aes256GcmSiv,
}

/// Keys that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathKeyError {
    /// No key at all.
    #[error("no path key")]
    Empty,
    /// Shorter than 16 bytes.
    #[error("path key {0} is shorter than 16 bytes")]
    Short(u8),
    /// Two keys with one id.
    #[error("two path keys have the id {0}")]
    Duplicate(u8),
}

/// What a signature vouches for.
pub(super) struct Claim<'a> {
    /// User part as written.
    pub(super) user: &'a [u8],
    /// Where the request came from.
    pub(super) received: (Transport, SocketAddr),
    /// The value's own address, as others are told: the side that received the request.
    pub(super) host: &'a [u8],
    /// Its port, written or not.
    pub(super) port: u16,
    /// Its transport.
    pub(super) transport: Transport,
}

impl PathKeys {
    /// Keys by id; the first signs. At least one; secrets of 16 bytes or more.
    pub fn new(keys: Vec<(u8, Vec<u8>)>) -> Result<PathKeys, PathKeyError> {
        if keys.is_empty() {
            return Err(PathKeyError::Empty);
        }
        let mut built: Vec<Key> = Vec::with_capacity(keys.len());
        for (id, secret) in keys {
            if secret.len() < SECRET_BYTES {
                return Err(PathKeyError::Short(id));
            }
            if built.iter().any(|key| key.id == id) {
                return Err(PathKeyError::Duplicate(id));
            }
            // HMAC takes keys of any length; the error is for MACs that do not.
            let mac: Hmac<Sha256> =
                Mac::new_from_slice(&secret).map_err(|_| PathKeyError::Short(id))?;
            let sealing = mac.clone().chain_update(SEAL_PURPOSE).finalize().into_bytes();
            let cipher = Aes256GcmSiv::new(&sealing);
            built.push(Key { id, mac, cipher });
        }
        Ok(PathKeys { keys: built.into() })
    }

    /// Appends key id (two hex digits) and signature; nothing where there is no key.
    pub(super) fn sign(&self, claim: &Claim<'_>, out: &mut Vec<u8>) {
        let Some(key) = self.keys.first() else { return };
        let mac = key.digest(claim).finalize().into_bytes();
        let mut letters = [0; MAC_LETTERS];
        let written = mac
            .get(..MAC_BYTES)
            .and_then(|mac| URL_SAFE_NO_PAD.encode_slice(mac, &mut letters).ok());
        if written == Some(MAC_LETTERS) {
            out.extend_from_slice(&[hex_digit(key.id >> 4), hex_digit(key.id & 15)]);
            out.extend_from_slice(&letters);
        }
    }

    /// Is this a signature one of the keys gives to the claim? Takes the same time wherever the
    /// texts differ.
    pub(super) fn verify(&self, claim: &Claim<'_>, signature: &[u8]) -> bool {
        let Some((id, letters)) = signature.split_at_checked(2) else { return false };
        let id = std::str::from_utf8(id).ok().and_then(|id| u8::from_str_radix(id, 16).ok());
        let Some(key) = self.keys.iter().find(|key| Some(key.id) == id) else { return false };
        // The decoder asks for room by its estimate, which exceeds the exact length.
        let mut mac = [0; MAC_BYTES + 4];
        letters.len() == MAC_LETTERS
            && URL_SAFE_NO_PAD.decode_slice(letters, &mut mac) == Ok(MAC_BYTES)
            && mac
                .get(..MAC_BYTES)
                .is_some_and(|mac| key.digest(claim).verify_truncated_left(mac).is_ok())
    }

    /// Signs bytes for a purpose: the id of the key and the MAC. `None` where there is no key.
    pub(crate) fn mac(&self, purpose: &[u8], bytes: &[u8]) -> Option<(u8, [u8; MAC_BYTES])> {
        let key = self.keys.first()?;
        let mac = key.mac.clone().chain_update(purpose).chain_update(bytes).finalize();
        let mac = mac.into_bytes().first_chunk().copied()?;
        Some((key.id, mac))
    }

    /// Is this the MAC a key gives to the bytes?
    pub(crate) fn verify_mac(&self, id: u8, purpose: &[u8], bytes: &[u8], mac: &[u8]) -> bool {
        let Some(key) = self.keys.iter().find(|key| key.id == id) else { return false };
        let digest = key.mac.clone().chain_update(purpose).chain_update(bytes);
        mac.len() == MAC_BYTES && digest.verify_truncated_left(mac).is_ok()
    }

    /// Encrypts and authenticates: the id of the key, and nonce with ciphertext.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_BYTES], plain: &[u8]) -> Option<(u8, Vec<u8>)> {
        let key = self.keys.first()?;
        let sealed = key.cipher.encrypt(Nonce::from_slice(&nonce), plain).ok()?;
        Some((key.id, [&nonce, &*sealed].concat()))
    }

    /// The plain text of what [`PathKeys::seal`] gave; `None` for everything else.
    pub(crate) fn open(&self, id: u8, sealed: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.iter().find(|key| key.id == id)?;
        let (nonce, text) = sealed.split_at_checked(NONCE_BYTES)?;
        key.cipher.decrypt(Nonce::from_slice(nonce), text).ok()
    }

    /// No keys: nothing we write is signed, nothing signed verifies.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl std::fmt::Debug for PathKeys {
    /// Ids only: secrets do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys.iter().map(|key| key.id)).finish()
    }
}

pub(crate) fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }
}

impl Key {
    /// Every part has a fixed length or its length in front: no two claims give the same bytes.
    fn digest(&self, claim: &Claim<'_>) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(PURPOSE);
        mac.update(&(claim.user.len() as u64).to_be_bytes());
        mac.update(claim.user);
        mac.update(&(claim.host.len() as u64).to_be_bytes());
        // Hosts compare without case (RFC 3261 19.1.4).
        for chunk in claim.host.chunks(64) {
            let mut folded = smallvec::SmallVec::<[u8; 64]>::from_slice(chunk);
            folded.make_ascii_lowercase();
            mac.update(&folded);
        }
        let (transport, addr) = claim.received;
        let ip = match addr.ip() {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            std::net::IpAddr::V6(ip) => ip,
        };
        mac.update(&ip.octets());
        mac.update(&addr.port().to_be_bytes());
        mac.update(&claim.port.to_be_bytes());
        mac.update(&[transport as u8, claim.transport as u8]);
        mac
    }
}
