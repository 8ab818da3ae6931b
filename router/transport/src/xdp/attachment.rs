//! One interface served by AF_XDP: the rungs tried in order, the program attached, the sockets of
//! all workers on all queues.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aya::programs::ProgramFd;

use super::frames::{Frames, Port, Queue, Shape};
use super::interface::Interface;
use super::layout::{MOST_QUEUES, MOST_WORKERS, Settings, VERDICTS};
use super::program::{Program, ProgramFault};

/// Ethernet's header with one tag.
const ETHERNET_BYTES: usize = 18;

/// How packets come from an interface, the fastest first. Below the last are kernel sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The driver receives into our frames.
    ZeroCopy,
    /// The driver runs the program; packets are copied into our frames.
    Copy,
    /// The kernel runs the program for a driver that cannot.
    Generic,
}

impl Rung {
    /// All of them, in the order they are tried.
    pub const ALL: [Rung; 3] = [Rung::ZeroCopy, Rung::Copy, Rung::Generic];
}

impl fmt::Display for Rung {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Rung::ZeroCopy => "xdp zero-copy",
            Rung::Copy => "xdp copy",
            Rung::Generic => "xdp generic",
        })
    }
}

/// What is wanted of an interface.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The interface; of a VLAN, the one under it.
    pub interface: Interface,
    /// Addresses to take packets for, with the VLAN (0: untagged).
    pub listeners: Vec<(SocketAddr, u16)>,
    /// Interfaces of VLANs on it, with the VLAN.
    pub vlans: Vec<(Interface, u16)>,
    /// Workers, 1 to 64.
    pub workers: u8,
    /// Frames of each queue, a power of two; half of them to receive into.
    pub frames: u32,
    /// Packets a source may send a second, and at once; (0, _): any number.
    pub rate: (u64, u64),
}

impl Plan {
    /// Whether what was opened by this plan would do for another, later one: the same listeners, and
    /// each VLAN as it was. An interface of a VLAN gets a new number when it is made again, and by that
    /// number routes name it. One that has come since, with no listener on it, is left to the kernel.
    pub fn does_for(&self, later: &Plan) -> bool {
        let is_same = |(old, old_vlan): &(Interface, u16), (new, vlan): &(Interface, u16)| {
            (old.index, old.mac, old.mtu, old_vlan) == (new.index, new.mac, new.mtu, vlan)
        };
        let is_there = |old: &(Interface, u16)| later.vlans.iter().any(|new| is_same(old, new));
        self.listeners == later.listeners && self.vlans.iter().all(is_there)
    }
}

/// Why a rung was not to be had.
#[derive(Debug)]
pub struct Refusal {
    /// Which.
    pub rung: Rung,
    /// Why.
    pub reason: String,
}

/// A served interface. Dropping it detaches the program first: packets then go up the stack, and
/// what lies in the sockets is still there for their workers.
pub struct Attachment {
    plan: Plan,
    rung: Rung,
    program: Program,
    program_id: u32,
    queues: Vec<Arc<Queue>>,
    is_chained: bool,
}

/// The ports of one worker on one interface.
pub struct WorkerPorts {
    pub(super) plan: Plan,
    pub(super) ports: Vec<Port>,
}

impl Attachment {
    /// Tries rungs in order. Returns the first that works with the ports of each worker, and the
    /// refusals before it.
    pub fn open(
        plan: &Plan,
        rungs: &[Rung],
    ) -> (Option<(Attachment, Vec<WorkerPorts>)>, Vec<Refusal>) {
        let mut refusals = Vec::new();
        for rung in rungs {
            match Attachment::open_rung(plan, *rung) {
                Ok(opened) => return (Some(opened), refusals),
                Err(fault) => {
                    let reason = fault.to_string();
                    refusals.push(Refusal { rung: *rung, reason });
                    if fault.is_for_all_rungs() {
                        break;
                    }
                }
            }
        }
        (None, refusals)
    }

    fn open_rung(plan: &Plan, rung: Rung) -> Result<(Attachment, Vec<WorkerPorts>), ProgramFault> {
        let workers = u32::from(plan.workers).clamp(1, MOST_WORKERS);
        let packet = plan.interface.mtu.saturating_add(ETHERNET_BYTES);
        let shape = |frame_bytes| Shape {
            frame_bytes,
            frames: plan.frames,
            zero_copy: rung == Rung::ZeroCopy,
        };
        let shape = if packet <= shape(2048).longest() { shape(2048) } else { shape(4096) };
        let mut program = Program::load()?;
        program.set(Settings {
            workers,
            longest_frame: u32::try_from(shape.longest()).unwrap_or(0),
            mac: plan.interface.mac,
            banning: 1,
            per_second: plan.rate.0,
            burst: plan.rate.1.max(1),
            ..Settings::default()
        })?;
        for (addr, vlan) in &plan.listeners {
            program.listen(*addr, *vlan)?;
        }
        // Attached before the sockets are opened, as drivers change modes for it; until the map
        // of sockets is filled everything goes up the stack.
        program.attach(plan.interface.index, rung != Rung::Generic)?;
        let (queues, ports) = open_queues(plan, shape)?;
        let mut each: Vec<WorkerPorts> = Vec::new();
        each.resize_with(workers as usize, || WorkerPorts {
            plan: plan.clone(),
            ports: Vec::new(),
        });
        for (queue, ports) in (0u32..).zip(ports) {
            for ((worker, port), of) in (0u32..).zip(ports).zip(&mut each) {
                program.add_socket(queue, worker, port.fd())?;
                of.ports.push(port);
            }
        }
        let program_id = program.id()?;
        let plan = plan.clone();
        Ok((Attachment { plan, rung, program, program_id, queues, is_chained: false }, each))
    }

    /// The rung.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// What it serves.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The kernel's number of its program.
    pub fn program_id(&self) -> u32 {
        self.program_id
    }

    /// Queues that have sockets.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// What is wrong with it, seen from the interface as it is now; `None`: nothing.
    pub fn fault(&self, now: &[Interface]) -> Option<&'static str> {
        let known = &self.plan.interface;
        match now.iter().find(|interface| interface.index == known.index) {
            None => Some("the interface is gone"),
            Some(interface) if !interface.is_up => Some("the link is down"),
            Some(interface) if interface.program != self.program_id => {
                Some("the program was detached")
            }
            Some(interface) if interface.mac != known.mac || interface.mtu != known.mtu => {
                Some("the interface was changed")
            }
            Some(_) => None,
        }
    }

    /// Lets another XDP program have UDP that is not for a listener, before the stack does.
    pub fn chain(&mut self, next: &ProgramFd) -> Result<(), ProgramFault> {
        self.program.chain(next)?;
        self.is_chained = true;
        Ok(())
    }

    /// Whether another program has been given to [`Attachment::chain`].
    pub fn is_chained(&self) -> bool {
        self.is_chained
    }

    /// Drops packets of a source until the monotonic clock shows `until_ns`.
    pub fn ban(&mut self, source: IpAddr, until_ns: u64) -> Result<(), ProgramFault> {
        self.program.ban(source, until_ns)
    }

    /// Takes packets of a source again.
    pub fn unban(&mut self, source: IpAddr) -> Result<bool, ProgramFault> {
        self.program.unban(source)
    }

    /// Name and count of each verdict.
    pub fn verdicts(&self) -> Result<Vec<(&'static str, u64)>, ProgramFault> {
        Ok(VERDICTS.into_iter().zip(self.program.verdicts()?).collect())
    }

    /// Where the frames of each queue are.
    pub fn frames(&self) -> Vec<Frames> {
        self.queues.iter().map(|queue| queue.frames()).collect()
    }
}

type Queues = (Vec<Arc<Queue>>, Vec<Vec<Port>>);

/// Opens all queues. How many an interface uses of those it could have is not told over rtnetlink:
/// the first one that is not there ends the list.
fn open_queues(plan: &Plan, shape: Shape) -> Result<Queues, ProgramFault> {
    let mut opened: Queues = Default::default();
    for queue in 0..plan.interface.queues.clamp(1, MOST_QUEUES) {
        match Queue::open(&plan.interface.name, queue, plan.workers.max(1).into(), shape) {
            Ok((queue, ports)) => {
                opened.0.push(queue);
                opened.1.push(ports);
            }
            Err(error) if queue > 0 && error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(ProgramFault::Kernel("AF_XDP socket", refined(error))),
        }
    }
    Ok(opened)
}

/// The kernel's words for a memory limit mislead.
fn refined(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ENOBUFS) {
        let text = "the limit of locked memory (LimitMEMLOCK, or CAP_IPC_LOCK) is too low";
        return io::Error::other(text);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(listeners: &[(&str, u16)], vlans: &[(u32, u16)]) -> Plan {
        let vlan = |(index, vlan): &(u32, u16)| {
            (Interface { index: *index, mtu: 1500, ..Interface::default() }, *vlan)
        };
        Plan {
            interface: Interface::default(),
            listeners: listeners
                .iter()
                .map(|(addr, vlan)| (addr.parse().unwrap(), *vlan))
                .collect(),
            vlans: vlans.iter().map(vlan).collect(),
            workers: 1,
            frames: 512,
            rate: (0, 0),
        }
    }

    #[test]
    fn what_is_open_does_until_its_listeners_or_their_vlans_change() {
        const HERE: (&str, u16) = ("192.0.2.1:5060", 0);
        const TAGGED: (&str, u16) = ("192.0.2.2:5060", 100);
        let open = plan(&[HERE, TAGGED], &[(7, 100)]);
        assert!(open.does_for(&open));
        assert!(open.does_for(&plan(&[HERE, TAGGED], &[(7, 100), (8, 200)])), "one more VLAN");
        assert!(!open.does_for(&plan(&[HERE], &[(7, 100)])), "an address is gone");
        assert!(!open.does_for(&plan(&[HERE], &[])), "the VLAN is gone");
        assert!(!open.does_for(&plan(&[HERE, TAGGED], &[(9, 100)])), "made again");
        let mut shorter = open.clone();
        shorter.vlans[0].0.mtu = 1400;
        assert!(!open.does_for(&shorter), "packets may not be as long");
        assert!(!plan(&[HERE], &[]).does_for(&open), "an address has come");
    }
}
