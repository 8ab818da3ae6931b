//! REGISTERs that took bindings back, remembered for as long as an older one may still come.
//!
//! A binding that is gone has no CSeq left to compare with (RFC 3261 10.3 step 7), and REGISTER is
//! answered without a transaction. So the retransmission of a refresh, held up on its way until the
//! phone has unregistered, would register the phone again, and nobody would take that back.

use std::collections::VecDeque;
use std::hash::Hasher;

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;
use viaduct_message::{Message, Method};

use crate::settings::TimerValues;

/// Most that are remembered; beyond them the oldest goes first.
const MOST: usize = 65_536;

/// CSeq numbers by Call-ID: all requests of a Call-ID come to one worker.
#[derive(Default)]
pub(crate) struct TakenBack {
    newest: HashMap<u64, u32>,
    /// When to forget what, in order.
    order: VecDeque<(u64, u64)>,
}

impl TakenBack {
    /// REGISTERs remembered.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Remembers a REGISTER that took bindings back, for as long as a client or a proxy sends one
    /// again (64*T1) and a message lives on its way (T4).
    pub(crate) fn note(
        &mut self,
        message: Message<'_>,
        secret: &[u8; 16],
        now_us: u64,
        timers: &TimerValues,
    ) {
        let (Ok(call_id), Ok(cseq)) = (message.call_id(), message.cseq()) else { return };
        self.forget(now_us);
        if self.order.len() >= MOST
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.newest.remove(&oldest);
        }
        let key = hash(call_id, secret);
        let newest = self.newest.entry(key).or_default();
        *newest = cseq.number.max(*newest);
        let life_us = timers.t1_us.saturating_mul(64).saturating_add(timers.t4_us);
        self.order.push_back((now_us.saturating_add(life_us), key));
    }

    /// Has a newer REGISTER of this Call-ID taken bindings back?
    pub(crate) fn overtook(
        &mut self,
        message: Message<'_>,
        secret: &[u8; 16],
        now_us: u64,
    ) -> bool {
        if self.order.is_empty() || message.method() != Method::Register {
            return false;
        }
        self.forget(now_us);
        let (Ok(call_id), Ok(cseq)) = (message.call_id(), message.cseq()) else { return false };
        self.newest.get(&hash(call_id, secret)).is_some_and(|newest| cseq.number < *newest)
    }

    /// A Call-ID noted again is forgotten with its first note: a little early, which a phone that
    /// unregisters twice within the time does not notice.
    fn forget(&mut self, now_us: u64) {
        while let Some((_, key)) = self.order.pop_front_if(|(until_us, _)| *until_us <= now_us) {
            self.newest.remove(&key);
        }
    }
}

fn hash(call_id: &[u8], secret: &[u8; 16]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(secret);
    hasher.write(call_id);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use viaduct_message::{Head, Limits};

    fn with(method: &str, call_id: &str, cseq: u32, work: impl FnOnce(Message<'_>)) {
        let text = format!(
            "{method} sip:example.com SIP/2.0\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\r\n"
        );
        let mut head = Head::new();
        head.scan(text.as_bytes(), &Limits::default()).unwrap();
        work(Message::new(text.as_bytes(), &head));
    }

    fn overtook(taken: &mut TakenBack, call_id: &str, cseq: u32, now_us: u64) -> bool {
        let mut found = false;
        with("REGISTER", call_id, cseq, |message| {
            found = taken.overtook(message, &[1; 16], now_us)
        });
        found
    }

    fn note(taken: &mut TakenBack, call_id: &str, cseq: u32, now_us: u64) {
        let timers = TimerValues::default();
        with("REGISTER", call_id, cseq, |message| taken.note(message, &[1; 16], now_us, &timers));
    }

    #[test]
    fn older_requests_of_the_call_id_are_overtaken_for_64_t1_and_t4() {
        let mut taken = TakenBack::default();
        note(&mut taken, "a", 10, 0);
        assert!(overtook(&mut taken, "a", 9, 1));
        assert!(!overtook(&mut taken, "a", 10, 1), "its own retransmission");
        assert!(!overtook(&mut taken, "a", 11, 1) && !overtook(&mut taken, "b", 9, 1));
        assert!(overtook(&mut taken, "a", 9, 36_999_999));
        assert!(!overtook(&mut taken, "a", 9, 37_000_000));
    }

    #[test]
    fn memory_is_bounded() {
        let mut taken = TakenBack::default();
        for n in 0..MOST + 10 {
            note(&mut taken, &format!("c{n}"), 2, 0);
        }
        assert_eq!((taken.order.len(), taken.newest.len()), (MOST, MOST));
        assert!(overtook(&mut taken, &format!("c{}", MOST + 9), 1, 1));
    }
}
