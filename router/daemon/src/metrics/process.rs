//! What the kernel says about this process.

use std::fs;

/// Resident memory, bytes; 0 where it cannot be read.
pub(super) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// CPU time of all threads, seconds; 0 where it cannot be read.
pub(super) fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold blanks: fields are counted from behind it (proc(5)).
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut ticks =
        fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    // Linux has told 100 ticks a second to user space on every architecture since 2.4.
    (ticks.next().unwrap_or(0.0) + ticks.next().unwrap_or(0.0)) / 100.0
}

/// Open file descriptors; 0 where they cannot be counted.
pub(super) fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| u64::try_from(entries.count()).unwrap_or(0))
}
