//! Capabilities (capabilities(7)): one thread keeps those that AF_XDP needs, as an interface that
//! comes back is opened again, and one that which the kernel module asks of whoever gives it orders;
//! all others give them up.

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

/// The same, and seeing functions of kernel modules.
const FOR_ASKING: [Capability; 6] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_IPC_LOCK,
    Capability::CAP_SYS_ADMIN,
];

/// A thread's name and what it keeps.
pub(crate) struct Needs {
    name: &'static str,
    kept: &'static [Capability],
}

/// Opens interfaces.
pub(crate) const PACKETS: Needs = Needs { name: "packets", kept: &FOR_PACKETS };
/// Opens interfaces, in front of which a program asks the kernel module.
pub(crate) const PACKETS_THAT_ASK: Needs = Needs { name: "packets", kept: &FOR_ASKING };
/// Gives orders to the kernel module that relays media.
pub(crate) const MEDIA: Needs = Needs { name: "media-kernel", kept: &[Capability::CAP_NET_ADMIN] };

type Job = Box<dyn FnOnce() + Send>;

/// The thread that keeps them. It ends with its last work, or when this is dropped.
pub(crate) struct Keeper {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts one for each of these, then gives up what they have kept: for this thread and those
    /// that it starts later.
    pub(crate) fn start<const N: usize>(needs: [Needs; N]) -> io::Result<[Keeper; N]> {
        let keepers: io::Result<Vec<Keeper>> = needs.iter().map(Keeper::with).collect();
        give_up_all_but(&[]);
        let all: Result<[Keeper; N], _> = keepers?.try_into();
        all.map_err(|_| io::Error::other("a thread is missing"))
    }

    fn with(needs: &Needs) -> io::Result<Keeper> {
        let (jobs, given): (Sender<Job>, Receiver<Job>) = bounded(1);
        let kept = needs.kept;
        let work = move || {
            give_up_all_but(kept);
            given.iter().for_each(|job| job());
        };
        let thread = std::thread::Builder::new().name(needs.name.into()).spawn(work)?;
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

fn give_up_all_but(needed: &[Capability]) {
    if let Err(error) = give_up(needed) {
        tracing::warn!(target: "viaduct::packets", %error, "capabilities are kept");
    }
}

/// What is not permitted can be neither inherited nor ambient, so these sets follow.
fn give_up(needed: &[Capability]) -> Result<(), caps::errors::CapsError> {
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let mut kept = caps::read(None, set)?;
        let before = kept.len();
        kept.retain(|one| needed.contains(one) || !FOR_ASKING.contains(one));
        if kept.len() != before {
            caps::set(None, set, &kept)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees_modules() -> bool {
        caps::read(None, CapSet::Permitted).unwrap().contains(&Capability::CAP_SYS_ADMIN)
    }

    #[test]
    fn only_a_thread_that_is_to_ask_the_module_goes_on_seeing_it() {
        let tested = std::thread::spawn(|| {
            let before = sees_modules();
            let [asking, packets] = Keeper::start([PACKETS_THAT_ASK, PACKETS]).unwrap();
            assert_eq!((asking.run(sees_modules), sees_modules()), (Some(before), false));
            assert_eq!(packets.run(sees_modules), Some(false), "where nobody asks nobody sees");
        });
        tested.join().unwrap();
    }

    fn has_some() -> bool {
        let held = caps::read(None, CapSet::Permitted).unwrap();
        FOR_PACKETS.iter().any(|one| held.contains(one))
    }

    #[test]
    fn the_thread_keeps_what_its_starter_gives_up() {
        // On a thread of its own: what is given up does not come back.
        let tested = std::thread::spawn(|| {
            let before = has_some();
            let [keeper, of_media] = Keeper::start([PACKETS, MEDIA]).unwrap();
            assert!(!has_some(), "the starter gives up");
            assert_eq!(keeper.run(has_some), Some(before), "the keeper keeps");
            let held = of_media.run(|| caps::read(None, CapSet::Permitted).unwrap()).unwrap();
            let kept: Vec<_> = FOR_ASKING.iter().filter(|one| held.contains(one)).collect();
            let expected = if before { vec![&Capability::CAP_NET_ADMIN] } else { vec![] };
            assert_eq!(kept, expected, "no more than it needs");
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
