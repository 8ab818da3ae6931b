//! Skipping aloud: a test that cannot run here says so and why.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread;

/// The full path of a program on the `PATH`, or in the places where Debian keeps daemons.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Prints the line that marks a test as not run. `reason` names what is missing.
///
/// Test runners hide what a passing test prints, so the line also goes to the end of the file named
/// by `VIADUCT_SKIPPED`, which `make test` shows when all tests have run.
pub fn skipped(reason: &str) {
    println!("skipped: {reason}");
    let Some(file) = env::var_os("VIADUCT_SKIPPED") else { return };
    let thread = thread::current();
    let line = format!("skipped: {}: {reason}\n", thread.name().unwrap_or("a test"));
    let written = OpenOptions::new().append(true).create(true).open(&file);
    if let Err(error) = written.and_then(|mut file| file.write_all(line.as_bytes())) {
        println!("and this could not be noted in {}: {error}", file.display());
    }
}

/// Evaluates to the value of an `Option`, or prints `skipped: reason` and returns from the test.
#[macro_export]
macro_rules! or_skip {
    ($option:expr, $($reason:tt)+) => {
        match $option {
            Some(value) => value,
            None => {
                $crate::support::skip::skipped(&format!($($reason)+));
                return Ok(());
            }
        }
    };
}
