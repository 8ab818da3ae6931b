//! A link that loses, repeats and reorders, by seed.

use crate::provider::{DatagramRx, DatagramTx, RecvBatch, SendBatch, SendFailure};
use std::io;
use viaduct_engine::{Flow, Token, Transport};

/// How often what happens, of 1,000 datagrams sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Datagrams lost.
    pub drop_permille: u16,
    /// Datagrams sent twice.
    pub repeat_permille: u16,
    /// Datagrams sent after the one behind them.
    pub swap_permille: u16,
}

/// Wraps a provider and mistreats the datagrams that are sent through it. Messages of stream
/// transports pass untouched.
pub struct FaultyLink<P> {
    inner: P,
    faults: Faults,
    state: u64,
    /// Reused: what is handed on.
    worse: SendBatch,
    dropped: u64,
    repeated: u64,
    swapped: u64,
}

impl<P> FaultyLink<P> {
    /// The same seed and the same datagrams give the same faults.
    pub fn new(inner: P, faults: Faults, seed: u64) -> FaultyLink<P> {
        let worse = SendBatch::new();
        FaultyLink { inner, faults, state: seed, worse, dropped: 0, repeated: 0, swapped: 0 }
    }

    /// The provider inside.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    /// Datagrams lost, repeated and swapped so far.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.dropped, self.repeated, self.swapped)
    }
}

/// The next number of a seed's sequence (SplitMix64), as permille.
fn chance(state: &mut u64) -> u16 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % 1_000) as u16
}

impl<P: DatagramTx> DatagramTx for FaultyLink<P> {
    fn flush(&mut self, batch: &mut SendBatch, failed: &mut dyn FnMut(SendFailure<'_>)) -> usize {
        let mut late: Option<(Flow, Token, Vec<u8>)> = None;
        let Self { faults, state, worse, dropped, repeated, swapped, .. } = self;
        batch.sweep(|message| {
            if message.flow.transport != Transport::Udp {
                return true;
            }
            if chance(state) < faults.drop_permille {
                *dropped += 1;
                return false;
            }
            let copies = 1 + usize::from(chance(state) < faults.repeat_permille);
            *repeated += copies as u64 - 1;
            if late.is_none() && chance(state) < faults.swap_permille {
                *swapped += 1;
                late = Some((message.flow, message.token, message.bytes.to_vec()));
                return false;
            }
            for _ in 0..copies {
                worse.push(message.flow, message.bytes, message.token);
            }
            if let Some((flow, token, bytes)) = late.take() {
                worse.push(flow, &bytes, token);
            }
            false
        });
        if let Some((flow, token, bytes)) = late {
            worse.push(flow, &bytes, token);
        }
        self.inner.flush(&mut self.worse, failed)
    }
}

impl<P: DatagramRx> DatagramRx for FaultyLink<P> {
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        self.inner.recv(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::udp_flow;

    /// Keeps what it is given.
    #[derive(Default)]
    struct Shelf(Vec<u8>);

    impl DatagramTx for Shelf {
        fn flush(&mut self, batch: &mut SendBatch, _: &mut dyn FnMut(SendFailure<'_>)) -> usize {
            let before = self.0.len();
            batch.sweep(|message| {
                self.0.extend_from_slice(message.bytes);
                false
            });
            self.0.len() - before
        }
    }

    fn run(faults: Faults, seed: u64) -> (Vec<u8>, (u64, u64, u64)) {
        let mut link = FaultyLink::new(Shelf::default(), faults, seed);
        let mut batch = SendBatch::new();
        let addr = ([127, 0, 0, 1], 5060).into();
        for number in 0..200 {
            batch.push(udp_flow(addr, addr), &[number], Token(0));
        }
        link.flush(&mut batch, &mut |_| panic!("nothing fails"));
        assert!(batch.is_empty());
        let counts = link.counts();
        (link.inner.0, counts)
    }

    #[test]
    fn without_faults_everything_passes_in_order() {
        let (seen, counts) = run(Faults::default(), 1);
        assert_eq!((seen, counts), ((0..200).collect(), (0, 0, 0)));
    }

    #[test]
    fn faults_are_counted_exactly_and_replayed_by_the_seed() {
        let faults = Faults { drop_permille: 100, repeat_permille: 100, swap_permille: 100 };
        let (seen, (dropped, repeated, swapped)) = run(faults, 7);
        assert!(dropped > 0 && repeated > 0 && swapped > 0);
        let mut distinct = seen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len() as u64, 200 - dropped);
        assert_eq!(run(faults, 7).0, seen);
        assert_ne!(run(faults, 8).0, seen);
    }
}
