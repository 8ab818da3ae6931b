//! Network namespaces without a name: gone with their file.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, id};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A namespace.
pub(crate) struct Namespace(File);

impl Namespace {
    /// A new one; the error says why this machine gives none.
    pub(crate) fn new() -> Result<Namespace, String> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("unshare: {error}"))?;
            File::open("/proc/thread-self/ns/net").map_err(|error| error.to_string())
        });
        made.join().unwrap().map(Namespace)
    }

    /// Does something inside. What is opened there stays there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            done.join().unwrap()
        })
    }

    /// Runs `ip WORDS` inside.
    pub(crate) fn ip(&self, words: &str) {
        self.within(|| {
            let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "ip {words}: {said}");
        });
    }

    /// What `ip link` takes for it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", id(), self.0.as_raw_fd())
    }
}
