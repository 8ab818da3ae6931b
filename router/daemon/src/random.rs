//! Random bytes from the kernel, for keys and secrets made at start.

use std::fs::File;
use std::io::Read;

/// Fills `bytes`.
pub fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}
