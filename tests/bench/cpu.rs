//! CPU time of processes, and pinning to cores.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use viaduct_tests::support::family::family;

use crate::subject::SERVER_CORE;

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread, and what it starts later, on one core; gives back those it had.
pub(crate) fn pin_to(core: usize) -> Result<CpuSet> {
    let before = sched_getaffinity(Pid::from_raw(0)).context("asking for the cores to use")?;
    let mut set = CpuSet::new();
    set.set(core)?;
    allow(&set).with_context(|| format!("pinning to core {core}"))?;
    Ok(before)
}

/// Lets the calling thread, and what it starts later, use these cores.
pub(crate) fn allow(cores: &CpuSet) -> Result<()> {
    sched_setaffinity(Pid::from_raw(0), cores).context("changing the cores to use")
}

/// CPU time used so far by a process with all its threads and child processes.
pub(crate) fn used(pid: u32) -> Result<Duration> {
    let mut total_ns = 0;
    for process in family(pid)? {
        let tasks = match fs::read_dir(format!("/proc/{process}/task")) {
            Ok(tasks) => tasks,
            Err(_) if process != pid => continue, // a child that has ended meanwhile
            Err(error) => return Err(error).with_context(|| format!("process {pid} is gone")),
        };
        for task in tasks {
            let file = task?.path().join("schedstat");
            let Ok(text) = fs::read_to_string(&file) else {
                continue;
            };
            total_ns += nanoseconds(&text).with_context(|| file.display().to_string())?;
        }
    }
    Ok(Duration::from_nanos(total_ns))
}

/// Time the server's core has been busy with anything, soft interrupts included, in ticks of 10 ms.
pub(crate) fn core_busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    busy_ticks(&text, SERVER_CORE)
        .map(|ticks| Duration::from_millis(ticks * 10))
        .with_context(|| format!("no core {SERVER_CORE} in /proc/stat"))
}

/// user, nice, system, irq and softirq of a core; not idle, iowait, stolen.
fn busy_ticks(stat: &str, core: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} ")))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    [0, 1, 2, 5, 6].into_iter().map(|at| fields.get(at)).sum()
}

/// Memory of a process with all its child processes, bytes; what they share is counted once.
pub(crate) fn memory_bytes(pid: u32) -> Result<u64> {
    let mut total = 0;
    for process in family(pid)? {
        let file = format!("/proc/{process}/smaps_rollup");
        match fs::read_to_string(&file) {
            Ok(text) => total += proportional_bytes(&text).context(file)?,
            Err(_) if process != pid => {} // a child that has ended meanwhile
            Err(error) => return Err(error).with_context(|| format!("process {pid} is gone")),
        }
    }
    Ok(total)
}

fn proportional_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The first field of schedstat: time on a CPU, in nanoseconds.
fn nanoseconds(schedstat: &str) -> Result<u64> {
    match schedstat.split_whitespace().next().map(str::parse) {
        Some(Ok(ns)) => Ok(ns),
        _ => bail!("no schedstat here: '{schedstat}'"),
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn work_shows_in_the_time_used() {
        let before = used(process::id()).unwrap();
        let mut sum = 0_u64;
        while used(process::id()).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(used(process::id()).unwrap() > before);
    }

    #[test]
    fn a_core_is_busy_with_all_but_idling() {
        let stat = "cpu  9 9 9 9\ncpu0 1 2 4 800 900 8 16 1000\ncpu1 7 7 7 7\n";
        assert_eq!(busy_ticks(stat, "0"), Some(31));
        assert_eq!(busy_ticks(stat, "1"), None);
        core_busy().unwrap();
    }

    #[test]
    fn memory_that_is_taken_shows() {
        let before = memory_bytes(process::id()).unwrap();
        let taken = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(memory_bytes(process::id()).unwrap() > before + (32 << 20));
        drop(taken);
        assert_eq!(proportional_bytes("x [rollup]\nRss: 9 kB\nPss:   7 kB\n"), Some(7 * 1024));
    }

    #[test]
    fn schedstat_is_read_by_its_first_field() {
        assert_eq!(nanoseconds("123 4 5\n").unwrap(), 123);
        assert!(nanoseconds("").is_err());
    }
}
