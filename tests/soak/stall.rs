//! A worker that does not get on for a while: its thread is held by ptrace, all others run.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Threads of a router that are workers.
pub(crate) fn workers(router: u32) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{router}/task"))? {
        let path = entry?.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("worker-") {
            let id = path.file_name().and_then(|id| id.to_str()).context("a thread's id")?;
            found.push(Pid::from_raw(id.parse()?));
        }
    }
    if found.is_empty() {
        bail!("no thread of {router} is called worker-...");
    }
    Ok(found)
}

/// Holds a thread for so long.
pub(crate) fn hold(thread: Pid, length: Duration) -> Result<()> {
    ptrace::seize(thread, ptrace::Options::empty()).context("PTRACE_SEIZE")?;
    let held =
        ptrace::interrupt(thread).map_err(anyhow::Error::from).and_then(|()| stopped(thread));
    if held.is_ok() {
        thread::sleep(length);
    }
    ptrace::detach(thread, None).context("PTRACE_DETACH")?;
    held
}

fn stopped(thread: Pid) -> Result<()> {
    match waitpid(thread, Some(WaitPidFlag::__WALL)).context("waiting for the thread to stop")? {
        WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => Ok(()),
        other => bail!("a thread that should have stopped: {other:?}"),
    }
}
