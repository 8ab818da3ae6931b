//! Nonces: what we challenge with, and recognise without having kept it.
//!
//! A nonce is 36 letters of base64: key id, time, a number of its own, and a MAC over these and the
//! realm (RFC 7616 3.3 leaves the making to the server). Routers that share the key file take each
//! other's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::path::{MAC_BYTES, PathKeys};

/// Letters of a nonce.
pub const NONCE_LEN: usize = 36;
/// Key id, six bytes of milliseconds, eight of the number.
const CLAIM_BYTES: usize = 15;
const BYTES: usize = CLAIM_BYTES + MAC_BYTES;
/// Milliseconds are written with 48 bits: enough until the year 10889.
const TIME_MASK: u64 = 0xffff_ffff_ffff;
/// Set apart from all else the keys sign.
const PURPOSE: &[u8] = b"viaduct nonce 1\0";

/// A nonce we have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce {
    /// When, milliseconds since 1970-01-01 UTC.
    pub issued_ms: u64,
    /// Tells apart those of one millisecond.
    pub number: u64,
}

impl Nonce {
    /// Writes it; `None` where there is no key to sign with.
    pub fn write(&self, realm: &str, keys: &PathKeys) -> Option<[u8; NONCE_LEN]> {
        let mut bytes = [0; BYTES];
        let (claim, mac) = bytes.split_at_mut_checked(CLAIM_BYTES)?;
        let (id, rest) = claim.split_first_mut()?;
        rest.get_mut(..6)?.copy_from_slice(self.issued_ms.to_be_bytes().get(2..)?);
        rest.get_mut(6..)?.copy_from_slice(&self.number.to_be_bytes());
        let (key, tag) = keys.mac(PURPOSE, &signed(rest, realm))?;
        *id = key;
        mac.copy_from_slice(&tag);
        let mut letters = [0; NONCE_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut letters).ok()?;
        (written == NONCE_LEN).then_some(letters)
    }

    /// Reads one that a key of ours has signed for this realm; `None` for all others.
    pub fn read(text: &[u8], realm: &str, keys: &PathKeys) -> Option<Nonce> {
        if text.len() != NONCE_LEN {
            return None;
        }
        // The decoder asks for room by its estimate.
        let mut bytes = [0; BYTES + 3];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (claim, mac) = bytes.get(..read)?.split_at_checked(CLAIM_BYTES)?;
        let (id, rest) = claim.split_first()?;
        if !keys.verify_mac(*id, PURPOSE, &signed(rest, realm), mac) {
            return None;
        }
        let (time, number) = rest.split_at_checked(6)?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        let issued_ms = time.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
        Some(Nonce { issued_ms: issued_ms & TIME_MASK, number })
    }
}

/// Time and number have a fixed length: no two claims give the same bytes.
fn signed(claim: &[u8], realm: &str) -> Vec<u8> {
    [claim, realm.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(keys: &[(u8, u8)]) -> PathKeys {
        PathKeys::new(keys.iter().map(|(id, byte)| (*id, vec![*byte; 32])).collect()).unwrap()
    }

    #[test]
    fn a_nonce_is_ours_under_each_key_of_the_file_and_none_else() {
        let nonce = Nonce { issued_ms: 1_800_000_000_123, number: 7 };
        let old = nonce.write("example.com", &keys(&[(1, 1)])).unwrap();
        let rotated = keys(&[(2, 2), (1, 1)]);
        assert_eq!(Nonce::read(&old, "example.com", &rotated), Some(nonce));
        assert_eq!(Nonce::read(&old, "example.org", &rotated), None, "another realm");
        assert_eq!(Nonce::read(&old, "example.com", &keys(&[(2, 2)])), None);
        assert_eq!(Nonce::read(&old, "example.com", &keys(&[(1, 3)])), None);
        assert_eq!(nonce.write("example.com", &PathKeys::default()), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_letter_can_be_changed(
            issued_ms in 0..=TIME_MASK,
            number: u64,
            realm in "[a-z.]{0,20}",
            at in 0..NONCE_LEN,
            letter in "[A-Za-z0-9_=/+-]",
        ) {
            let keys = keys(&[(9, 9)]);
            let nonce = Nonce { issued_ms, number };
            let mut text = nonce.write(&realm, &keys).unwrap();
            prop_assert_eq!(Nonce::read(&text, &realm, &keys), Some(nonce));
            if text[at] != letter.as_bytes()[0] {
                text[at] = letter.as_bytes()[0];
                prop_assert_eq!(Nonce::read(&text, &realm, &keys), None);
            }
        }

        #[test]
        fn any_bytes_panic_nothing(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(Nonce::read(&text, "r", &keys(&[(0, 0)])), None);
        }
    }
}
