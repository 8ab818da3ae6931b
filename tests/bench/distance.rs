//! How far the server's core is from the generator's. All they tell each other travels as cache lines, and
//! on a virtual machine nobody says whether two cores are neighbours, nor for how long: a line there and
//! back has taken 80 ns and, minutes later, 380, and the same router a sixth more for each answer. Kamailio
//! pays as much for the way and less in proportion, so ratios are comparable at one distance only.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::cpu;
use crate::subject::{GENERATOR_CORE, SERVER_CORE};

const ROUNDS: u32 = 100_000;
/// Measured so often; the shortest counts, as everything else on the two cores makes it longer.
const TIMES: usize = 5;

/// A counter in a cache line of its own.
#[repr(align(128))]
struct Line(AtomicU32);

/// Time for a cache line to the server's core and back. The calling thread stays on the generator's.
pub(crate) fn round_trip() -> Result<Duration> {
    let server: usize = SERVER_CORE.parse().context("the server's core")?;
    cpu::pin_to(GENERATOR_CORE)?;
    let times = (0..TIMES).map(|_| once(server, ROUNDS)).collect::<Result<Vec<_>>>()?;
    times.into_iter().min().context("nothing was measured")
}

fn once(server: usize, rounds: u32) -> Result<Duration> {
    let line = Line(AtomicU32::new(0));
    thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<()> {
            let pinned = cpu::pin_to(server).map(drop);
            // It answers wherever it is, or the other side would wait for ever.
            for round in 0..=rounds {
                await_number(&line, 2 * round + 1);
                line.0.store(2 * round + 2, Ordering::Release);
            }
            pinned
        });
        // The first is not measured: the other thread may have to be started.
        line.0.store(1, Ordering::Release);
        await_number(&line, 2);
        let began = Instant::now();
        for round in 1..=rounds {
            line.0.store(2 * round + 1, Ordering::Release);
            await_number(&line, 2 * round + 2);
        }
        let took = began.elapsed() / rounds;
        echo.join().map_err(|_| anyhow!("the other thread has failed"))??;
        Ok(took)
    })
}

fn await_number(line: &Line, number: u32) {
    while line.0.load(Ordering::Acquire) != number {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_to_the_other_core_and_back() {
        let before = match cpu::pin_to(GENERATOR_CORE) {
            Ok(before) => before,
            Err(error) => return println!("skipped: {error:#}"),
        };
        // Few rounds: other tests have the cores, too.
        let took = once(SERVER_CORE.parse().unwrap(), 20).unwrap();
        assert!(took > Duration::ZERO);
        cpu::allow(&before).unwrap();
    }
}
