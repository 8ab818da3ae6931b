//! Capabilities (capabilities(7)): one thread keeps those that AF_XDP needs, as an interface that
//! comes back is opened again; all others give them up.

use std::io;
use std::thread::JoinHandle;

use caps::{CapSet, Capability};
use crossbeam_channel::{Receiver, Sender, bounded};

/// What opening an interface takes.
const FOR_PACKETS: [Capability; 5] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_IPC_LOCK,
];

type Job = Box<dyn FnOnce() + Send>;

/// The thread that keeps them. It ends with its last work, or when this is dropped.
pub(crate) struct Keeper {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts it, then gives up what it has kept: for this thread and those that it starts later.
    pub(crate) fn start() -> io::Result<Keeper> {
        let (jobs, given): (Sender<Job>, Receiver<Job>) = bounded(1);
        let work = move || given.iter().for_each(|job| job());
        let thread = std::thread::Builder::new().name("packets".into()).spawn(work)?;
        if let Err(error) = give_up() {
            tracing::warn!(target: "viaduct::packets", %error, "capabilities are kept");
        }
        Ok(Keeper { jobs, thread })
    }

    /// Has it do something, and waits for that; `None` where the thread is gone.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = bounded(1);
        let job = move || drop(answer.send(work()));
        self.jobs.send(Box::new(job)).ok()?;
        answered.recv().ok()
    }

    /// Gives it its last work.
    pub(crate) fn end_with(self, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        // Where it is gone, joining it tells.
        let _ = self.jobs.send(Box::new(work));
        self.thread
    }
}

/// What is not permitted can be neither inherited nor ambient, so these sets follow.
fn give_up() -> Result<(), caps::errors::CapsError> {
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let mut kept = caps::read(None, set)?;
        let before = kept.len();
        kept.retain(|one| !FOR_PACKETS.contains(one));
        if kept.len() != before {
            caps::set(None, set, &kept)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_some() -> bool {
        let held = caps::read(None, CapSet::Permitted).unwrap();
        FOR_PACKETS.iter().any(|one| held.contains(one))
    }

    #[test]
    fn the_thread_keeps_what_its_starter_gives_up() {
        // On a thread of its own: what is given up does not come back.
        let tested = std::thread::spawn(|| {
            let before = has_some();
            let keeper = Keeper::start().unwrap();
            assert!(!has_some(), "the starter gives up");
            assert_eq!(keeper.run(has_some), Some(before), "the keeper keeps");
            let later = std::thread::spawn(has_some);
            assert!(!later.join().unwrap(), "threads started later have nothing to keep");
            let (said, heard) = bounded(1);
            let thread = keeper.end_with(move || said.send(has_some()).unwrap());
            assert_eq!(heard.recv().unwrap(), before);
            thread.join().unwrap();
        });
        tested.join().unwrap();
    }
}
