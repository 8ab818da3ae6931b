//! Which worker owns a message: a cheap look at one header, before anything is scanned.
//!
//! A response belongs to the worker named in the branch we wrote; a request to a hash of its
//! Call-ID. So retransmissions, CANCEL and ACK follow their INVITE, and all requests of a dialog
//! keep their order: by the branch, an ACK and the BYE behind it would go to two workers and could
//! overtake each other. A wrong guess here costs a stray or a second transaction, never memory
//! safety: the owner checks.

use viaduct_message::HeaderName;

use crate::transaction::branch::worker_of;

/// The owner of a message among `workers`; `None` where it has nothing to tell by (any will do).
pub fn owner(bytes: &[u8], workers: u8) -> Option<u8> {
    if workers <= 1 {
        return Some(0);
    }
    if bytes.starts_with(b"SIP/2.0 ") {
        return sender(bytes, workers);
    }
    let hash = fold(first_value(bytes, HeaderName::CallId)?);
    // High bits of a product are the well-mixed ones.
    let spread = (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32;
    Some(((spread.wrapping_mul(u64::from(workers))) >> 32) as u8)
}

/// The worker that has sent a request, or whose request a response answers: as its topmost Via says.
/// The message may be cut off behind that.
pub fn sender(bytes: &[u8], workers: u8) -> Option<u8> {
    worker_of(branch(bytes)?).filter(|worker| *worker < workers)
}

/// The branch of the topmost Via.
pub(crate) fn branch(bytes: &[u8]) -> Option<&[u8]> {
    let via = first_value(bytes, HeaderName::Via)?;
    branch_of(via.split(|c| *c == b',').next()?)
}

/// FNV-1a, a byte a step: short inputs, and simple enough for a kernel program to do the same.
fn fold(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes.iter().take(128).filter(|c| !c.is_ascii_whitespace()) {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// Value of the first line of a header.
fn first_value(bytes: &[u8], name: HeaderName) -> Option<&[u8]> {
    let mut rest = bytes;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        rest = rest.get(end.saturating_add(1)..)?;
        let line = rest.get(..memchr::memchr(b'\n', rest)?)?;
        if line.is_empty() || line == b"\r" {
            return None;
        }
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let label = line.get(..colon)?.trim_ascii_end();
        if HeaderName::from_label(label) == name {
            return line.get(colon.saturating_add(1)..);
        }
    }
    None
}

fn branch_of(via: &[u8]) -> Option<&[u8]> {
    via.split(|c| *c == b';').map(<[u8]>::trim_ascii).find_map(|param| {
        let (name, value) = param.split_at_checked(7)?;
        name.eq_ignore_ascii_case(b"branch=").then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::{branch, owner, sender};
    use crate::transaction::OwnBranch;
    use proptest::prelude::*;

    fn message(start: &str, via: &str) -> Vec<u8> {
        format!("{start}\r\nX: y\r\n{via}\r\nTo: <sip:a@b>\r\n\r\n").into_bytes()
    }

    #[test]
    fn a_response_goes_to_the_worker_in_our_branch() {
        let mut branch = Vec::new();
        OwnBranch { worker: 5, slot: 1, generation: 2, loop_hash: 3 }.write(&[0; 16], &mut branch);
        let branch = String::from_utf8(branch).unwrap();
        let via = format!("v : SIP/2.0/UDP 192.0.2.1;rport=1; branch={branch};received=1.2.3.4");
        let bytes = message("SIP/2.0 200 OK", &via);
        assert_eq!(owner(&bytes, 8), Some(5));
        assert_eq!(owner(&bytes, 4), None, "a worker of another time");
    }

    #[test]
    fn requests_of_one_dialog_have_one_owner_and_dialogs_spread() {
        let invite = owner(&message("INVITE sip:a@b SIP/2.0", "Call-ID: abc@192.0.2.9"), 8);
        for (method, call_id) in [("ACK", "i:abc@192.0.2.9"), ("BYE", "CALL-ID :  abc@192.0.2.9 ")]
        {
            assert_eq!(owner(&message(&format!("{method} sip:a@b SIP/2.0"), call_id), 8), invite);
        }
        let mut seen = [0u32; 8];
        for n in 0..8000 {
            let call_id = format!("Call-ID: {n}@192.0.2.9");
            seen[owner(&message("OPTIONS sip:a@b SIP/2.0", &call_id), 8).unwrap() as usize] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
    }

    #[test]
    fn without_anything_to_tell_by_anybody_may_have_it() {
        assert_eq!(owner(b"INVITE sip:a@b SIP/2.0\r\nTo: x\r\n\r\n", 4), None);
        assert_eq!(owner(b"garbage", 4), None);
        assert_eq!(owner(b"", 1), Some(0));
    }

    proptest! {
        #[test]
        fn a_request_cut_off_behind_its_via_still_names_its_sender_and_any_bytes_panic_nothing(
            worker in 0u8..8,
            cut in any::<prop::sample::Index>(),
            bytes: Vec<u8>,
        ) {
            let mut own = Vec::new();
            OwnBranch { worker, slot: 1, generation: 2, loop_hash: 3 }.write(&[0; 16], &mut own);
            let via = format!("Via: SIP/2.0/UDP h;branch={}", String::from_utf8(own).unwrap());
            let whole = message("INVITE sip:a@b SIP/2.0", &via);
            let end = whole.windows(3).position(|w| w == b"To:").unwrap();
            let shown = &whole[..end + cut.index(whole.len() - end)];
            prop_assert_eq!(sender(shown, 8), Some(worker));
            prop_assert_eq!(sender(shown, worker), None);
            let _ = (branch(&bytes), owner(&bytes, 8));
        }
    }
}
