//! The steering program in the kernel: loaded, attached, its maps written and read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, ProgramArray, XskMap};
use aya::programs::socket_filter::ReusePortSocketFilter;
use aya::programs::{ProgramError, ProgramFd, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};

use super::layout::{Address, ListenerKey, MOST_WORKERS, Settings, VERDICTS};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Why the program could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProgramFault {
    /// clang was missing when this was built.
    #[error("this build has no steering program: clang was missing when it was built")]
    Absent,
    /// The kernel, or a lack of privileges.
    #[error("{0}: {1}")]
    Kernel(&'static str, #[source] io::Error),
    /// The object does not fit this program.
    #[error("steering program: {0}")]
    Object(String),
}

impl ProgramFault {
    /// Would a lower rung be refused too, or be the wrong one? A device or queue that is busy with
    /// somebody else's program or socket, or with one of a process that has just ended, may soon
    /// give more than what it would give now.
    pub(super) fn is_for_all_rungs(&self) -> bool {
        match self {
            ProgramFault::Absent => true,
            ProgramFault::Kernel(_, error) => error.raw_os_error() == Some(libc::EBUSY),
            ProgramFault::Object(_) => false,
        }
    }
}

/// A loaded program with maps of its own. It is detached when dropped, and by the kernel when the
/// process dies.
pub struct Program {
    ebpf: Ebpf,
}

impl Program {
    /// Makes the maps. Each of the two programs is loaded when it is first wanted.
    pub fn load() -> Result<Program, ProgramFault> {
        Program::load_with(EbpfLoader::new())
    }

    /// The same for `choose` alone, which looks at no source: without the memory of those tables.
    pub fn load_chooser() -> Result<Program, ProgramFault> {
        let mut loader = EbpfLoader::new();
        for table in ["banned", "buckets", "sockets", "listeners"] {
            loader.map_max_entries(table, 1);
        }
        Program::load_with(loader)
    }

    fn load_with(mut loader: EbpfLoader<'_>) -> Result<Program, ProgramFault> {
        if OBJECT.is_empty() {
            return Err(ProgramFault::Absent);
        }
        let ebpf = loader.load(OBJECT).map_err(|error| fault("load", &error))?;
        Ok(Program { ebpf })
    }

    /// Loads `steer` and puts it in front of the stack of an interface.
    pub fn attach(&mut self, index: u32, native: bool) -> Result<(), ProgramFault> {
        let mode = if native { XdpMode::Driver } else { XdpMode::Skb };
        let attached = steer(&mut self.ebpf)?.attach_to_if_index(index, mode);
        attached.map(|_| ()).map_err(|error| fault("attach", &error))
    }

    /// The kernel's number of `steer`.
    pub fn id(&mut self) -> Result<u32, ProgramFault> {
        let info = steer(&mut self.ebpf)?.info().map_err(|error| fault("info", &error))?;
        Ok(info.id())
    }

    /// Loads `choose` and lets it decide among the sockets of a port, of which `socket` is one.
    pub fn attach_chooser(&mut self, socket: BorrowedFd<'_>) -> Result<(), ProgramFault> {
        let attached = choose(&mut self.ebpf)?.attach(socket);
        attached.map_err(|error| fault("attach", &error))
    }

    /// Descriptors of `steer` and `choose`, for the kernel's test run.
    pub fn fds(&mut self) -> Result<(ProgramFd, ProgramFd), ProgramFault> {
        let clone = |error: io::Error| ProgramFault::Kernel("descriptor", error);
        let of = |fd: Result<&ProgramFd, ProgramError>| {
            fd.map_err(|error| fault("descriptor", &error))?.try_clone().map_err(clone)
        };
        Ok((of(steer(&mut self.ebpf)?.fd())?, of(choose(&mut self.ebpf)?.fd())?))
    }

    /// Writes the settings.
    pub fn set(&mut self, settings: Settings) -> Result<(), ProgramFault> {
        let mut map: Array<_, Settings> = Array::try_from(self.map("settings")?).map_err(object)?;
        map.set(0, settings, 0).map_err(object)
    }

    /// Takes packets to an address.
    pub fn listen(&mut self, addr: SocketAddr, vlan: u16) -> Result<(), ProgramFault> {
        let mut map: HashMap<_, ListenerKey, u32> =
            HashMap::try_from(self.map("listeners")?).map_err(object)?;
        map.insert(ListenerKey::new(addr, vlan), 1, 0).map_err(object)
    }

    /// Names the socket of a worker on a queue.
    pub fn add_socket(&mut self, queue: u32, worker: u32, fd: RawFd) -> Result<(), ProgramFault> {
        struct Descriptor(RawFd);
        impl AsRawFd for Descriptor {
            fn as_raw_fd(&self) -> RawFd {
                self.0
            }
        }
        let place = queue.saturating_mul(MOST_WORKERS).saturating_add(worker);
        let mut map = XskMap::try_from(self.map("sockets")?).map_err(object)?;
        map.set(place, Descriptor(fd), 0).map_err(object)
    }

    /// Lets another XDP program have UDP that is not for a listener, before the stack does.
    pub fn chain(&mut self, next: &ProgramFd) -> Result<(), ProgramFault> {
        let mut map = ProgramArray::try_from(self.map("next")?).map_err(object)?;
        map.set(0, next, 0).map_err(|error| fault("chain", &error))
    }

    /// Drops packets of `source` until the monotonic clock shows `until_ns`.
    pub fn ban(&mut self, source: IpAddr, until_ns: u64) -> Result<(), ProgramFault> {
        let mut map: HashMap<_, Address, u64> =
            HashMap::try_from(self.map("banned")?).map_err(object)?;
        map.insert(Address::from(source), until_ns, 0).map_err(object)
    }

    /// Takes packets of `source` again; says whether it was banned.
    pub fn unban(&mut self, source: IpAddr) -> Result<bool, ProgramFault> {
        let mut map: HashMap<_, Address, u64> =
            HashMap::try_from(self.map("banned")?).map_err(object)?;
        Ok(map.remove(&Address::from(source)).is_ok())
    }

    /// How often each verdict was given, in the order of [`VERDICTS`].
    pub fn verdicts(&self) -> Result<[u64; VERDICTS.len()], ProgramFault> {
        let absent = || ProgramFault::Object("no map verdicts".to_owned());
        let map = self.ebpf.map("verdicts").ok_or_else(absent)?;
        let map: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map).map_err(object)?;
        let mut counts = [0u64; VERDICTS.len()];
        for (index, count) in (0u32..).zip(&mut counts) {
            let values = map.get(&index, 0).map_err(object)?;
            *count = values.iter().fold(0, |sum, value| sum.wrapping_add(*value));
        }
        Ok(counts)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map, ProgramFault> {
        let absent = || ProgramFault::Object(format!("no map {name}"));
        self.ebpf.map_mut(name).ok_or_else(absent)
    }
}

/// `steer`, loaded.
fn steer(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramFault> {
    let program = ebpf.program_mut("steer").ok_or_else(|| object("no program steer"))?;
    let program: &mut Xdp = program.try_into().map_err(object)?;
    if program.fd().is_err() {
        program.load().map_err(|error| fault("load", &error))?;
    }
    Ok(program)
}

/// `choose`, loaded.
fn choose(ebpf: &mut Ebpf) -> Result<&mut ReusePortSocketFilter, ProgramFault> {
    let program = ebpf.program_mut("choose").ok_or_else(|| object("no program choose"))?;
    let program: &mut ReusePortSocketFilter = program.try_into().map_err(object)?;
    if program.fd().is_err() {
        program.load().map_err(|error| fault("load", &error))?;
    }
    Ok(program)
}

pub(crate) fn object(error: impl std::fmt::Display) -> ProgramFault {
    ProgramFault::Object(error.to_string())
}

/// The kernel's own reason where there is one in the chain of causes.
pub(crate) fn fault(what: &'static str, error: &(dyn std::error::Error + 'static)) -> ProgramFault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return ProgramFault::Kernel(what, io::Error::from_raw_os_error(code));
        }
        cause = error.source();
    }
    let causes = std::iter::successors(Some(error), |error| error.source());
    let words: Vec<String> = causes.map(ToString::to_string).collect();
    ProgramFault::Object(format!("{what}: {}", words.join(": ")))
}

impl From<EbpfError> for ProgramFault {
    fn from(error: EbpfError) -> ProgramFault {
        fault("load", &error)
    }
}
