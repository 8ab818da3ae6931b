//! The branch we write into our Via: it says which worker and which slot a response belongs to, so
//! that no table shared by the workers is needed.
//!
//! 42 bytes, lower-case hex after the cookie, every field at a fixed offset:
//!
//! ```text
//! z9hG4bK 1 ww ssssssss gggggggg llllllll cccccccc
//! |       | |  |        |        |        check: 32 bits of a keyed hash of all before it
//! |       | |  |        |        loop hash: the second part of RFC 5393 4.2.1
//! |       | |  |        generation of the slot
//! |       | |  slot of the client transaction
//! |       | worker (read by the kernel's steering programs)
//! |       version of this layout
//! magic cookie (RFC 3261 8.1.1.7)
//! ```
//!
//! The branch is unique in the router's run as long as no slot uses a generation twice. The check
//! keeps strangers from naming slots that are not theirs: a guess is right once in 2^32, and even
//! then slot and generation must be alive. It is not there to keep the content secret.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use viaduct_message::Via;

/// Length of every branch we write, in bytes.
pub const BRANCH_LEN: usize = 42;
/// Offset of the worker's two hex digits.
pub const WORKER_OFFSET: usize = 8;

const VERSION: u8 = b'1';
const VERSION_OFFSET: usize = 7;
const SLOT_OFFSET: usize = 10;
const GENERATION_OFFSET: usize = 18;
const LOOP_OFFSET: usize = 26;
const CHECK_OFFSET: usize = 34;

/// Keeps the uses of one secret apart: the first byte hashed is different for each.
const CHECK_DOMAIN: u8 = 0x01;
const LOOP_DOMAIN: u8 = 0x02;

/// What one of our branches says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnBranch {
    /// The worker that owns the client transaction.
    pub worker: u8,
    /// Its slot on that worker.
    pub slot: u32,
    /// Generation of the slot: a response to an earlier user of the slot is a stray.
    pub generation: u32,
    /// Hash of what routing depended on, from [`loop_hash`] (RFC 5393 4.2).
    pub loop_hash: u32,
}

impl OwnBranch {
    /// Appends the branch, [`BRANCH_LEN`] bytes.
    pub fn write(&self, secret: &[u8; 16], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(Via::COOKIE);
        out.push(VERSION);
        write_hex(&[self.worker], out);
        write_hex(&self.slot.to_be_bytes(), out);
        write_hex(&self.generation.to_be_bytes(), out);
        write_hex(&self.loop_hash.to_be_bytes(), out);
        let check = check(out.get(start..).unwrap_or_default(), secret);
        write_hex(&check.to_be_bytes(), out);
    }

    /// Reads a branch that [`OwnBranch::write`] has made with the same secret; `None` for every
    /// other text. Peers must repeat it byte for byte (RFC 3261 8.2.6.2), so case counts.
    pub fn parse(branch: &[u8], secret: &[u8; 16]) -> Option<OwnBranch> {
        if branch.len() != BRANCH_LEN || !branch.starts_with(Via::COOKIE) {
            return None;
        }
        if *branch.get(VERSION_OFFSET)? != VERSION {
            return None;
        }
        let (checked, _) = branch.split_at_checked(CHECK_OFFSET)?;
        if read_u32(branch, CHECK_OFFSET)? != check(checked, secret) {
            return None;
        }
        Some(OwnBranch {
            worker: worker_of(branch)?,
            slot: read_u32(branch, SLOT_OFFSET)?,
            generation: read_u32(branch, GENERATION_OFFSET)?,
            loop_hash: read_u32(branch, LOOP_OFFSET)?,
        })
    }
}

/// The worker named in a branch of our form, without asking whether we wrote it: enough to hand the
/// message to that worker, which then checks it.
pub fn worker_of(branch: &[u8]) -> Option<u8> {
    if branch.len() != BRANCH_LEN || *branch.get(VERSION_OFFSET)? != VERSION {
        return None;
    }
    let high = digit(*branch.get(WORKER_OFFSET)?)?;
    let low = digit(*branch.get(WORKER_OFFSET.saturating_add(1))?)?;
    Some((high << 4) | low)
}

/// The second part of RFC 5393 4.2: a keyed hash over everything the choice of targets depends on
/// (Request-URI as received, the Route values used, Call-ID, CSeq number, ...; never the method, so
/// that ACK and CANCEL give the same). Equal parts in equal order give equal hashes.
pub fn loop_hash<'a>(secret: &[u8; 16], parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = SipHasher13::new_with_key(secret);
    hasher.write(&[LOOP_DOMAIN]);
    for part in parts {
        // The length keeps "ab","c" and "a","bc" apart.
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish() as u32
}

fn check(bytes: &[u8], secret: &[u8; 16]) -> u32 {
    let mut hasher = SipHasher13::new_with_key(secret);
    hasher.write(&[CHECK_DOMAIN]);
    hasher.write(bytes);
    hasher.finish() as u32
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend([byte >> 4, byte & 0x0f].map(|n| if n < 10 { b'0' + n } else { b'a' + n - 10 }));
    }
}

/// Value of a lower-case hex digit. Upper case is not ours: one text for one value.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

fn read_u32(branch: &[u8], offset: usize) -> Option<u32> {
    let digits = branch.get(offset..offset.checked_add(8)?)?;
    digits.iter().try_fold(0u32, |value, byte| Some((value << 4) | u32::from(digit(*byte)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: [u8; 16] = *b"sixteen bytes ok";

    fn text(branch: &OwnBranch) -> Vec<u8> {
        let mut out = Vec::new();
        branch.write(&SECRET, &mut out);
        out
    }

    fn any_branch() -> impl Strategy<Value = OwnBranch> {
        any::<(u8, u32, u32, u32)>().prop_map(|(worker, slot, generation, loop_hash)| OwnBranch {
            worker,
            slot,
            generation,
            loop_hash,
        })
    }

    #[test]
    fn fields_stand_at_the_offsets_the_kernel_reads() {
        let branch =
            OwnBranch { worker: 0x0a, slot: 0x1234, generation: 7, loop_hash: 0xfedc_ba98 };
        let text = text(&branch);
        let readable = String::from_utf8(text.clone()).unwrap();
        assert_eq!(readable.len(), BRANCH_LEN);
        assert_eq!(&readable[..CHECK_OFFSET], "z9hG4bK10a0000123400000007fedcba98");
        assert_eq!(&readable[WORKER_OFFSET..WORKER_OFFSET + 2], "0a");
        assert_eq!(worker_of(&text), Some(0x0a));
        assert!(text.iter().all(u8::is_ascii_alphanumeric), "a token (RFC 3261 25.1)");
    }

    #[test]
    fn another_secret_does_not_read_it() {
        let branch = OwnBranch { worker: 1, slot: 2, generation: 3, loop_hash: 4 };
        assert_eq!(OwnBranch::parse(&text(&branch), b"another 16 bytes"), None);
    }

    #[test]
    fn foreign_branches_are_not_ours() {
        let long = [b'a'; 300];
        for foreign in [&b""[..], b"z9hG4bK", b"z9hG4bK776asdhds", b"1", &long, &long[..42]] {
            assert_eq!(OwnBranch::parse(foreign, &SECRET), None);
            assert_eq!(worker_of(foreign), None);
        }
    }

    #[test]
    fn loop_hash_depends_on_secret_content_order_and_boundaries() {
        let hash = |parts: &[&'static [u8]]| loop_hash(&SECRET, parts.iter().copied());
        let base = hash(&[b"sip:a@b", b"id", b"1"]);
        assert_eq!(base, hash(&[b"sip:a@b", b"id", b"1"]));
        assert_ne!(base, hash(&[b"sip:a@b", b"id1", b""]));
        assert_ne!(base, hash(&[b"id", b"sip:a@b", b"1"]));
        assert_ne!(base, hash(&[b"sip:a@c", b"id", b"1"]));
        assert_ne!(base, loop_hash(b"another 16 bytes", [&b"sip:a@b"[..], b"id", b"1"]));
    }

    proptest! {
        #[test]
        fn round_trip(branch in any_branch(), prefix in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut out = prefix.clone();
            branch.write(&SECRET, &mut out);
            let text = &out[prefix.len()..];
            prop_assert_eq!(OwnBranch::parse(text, &SECRET), Some(branch));
            prop_assert_eq!(worker_of(text), Some(branch.worker));
        }

        #[test]
        fn one_wrong_byte_anywhere_is_refused(branch in any_branch(), byte in any::<u8>()) {
            let good = text(&branch);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] = byte;
                if bad != good {
                    prop_assert_eq!(OwnBranch::parse(&bad, &SECRET), None);
                }
                bad[at] = good[at].to_ascii_uppercase();
                if bad != good {
                    prop_assert_eq!(OwnBranch::parse(&bad, &SECRET), None);
                }
            }
        }

        #[test]
        fn a_byte_more_or_less_is_refused(branch in any_branch(), byte in any::<u8>()) {
            let mut long = text(&branch);
            prop_assert_eq!(OwnBranch::parse(&long[..long.len() - 1], &SECRET), None);
            long.push(byte);
            prop_assert_eq!(OwnBranch::parse(&long, &SECRET), None);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(OwnBranch::parse(&bytes, &SECRET), None);
            if let Some(worker) = worker_of(&bytes) {
                let digits = format!("{worker:02x}");
                prop_assert_eq!(digits.as_bytes(), &bytes[8..10]);
            }
        }
    }
}
