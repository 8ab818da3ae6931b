//! The program in the kernel: loaded, attached, jumped to.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::AsFd as _;

use aya::maps::{HashMap as BpfHash, Map, MapData, PerCpuArray, ProgramArray};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramFd, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;

use super::consult::{CONSULTED, Consult};
use super::features::Devices;
use super::layout::{Device, OUTCOMES};
use super::table::Table;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/relay.bpf.o"));

/// Why the program could not be used.
#[derive(Debug, thiserror::Error)]
pub enum XdpFault {
    /// clang was missing when this was built.
    #[error("this build has no relay in XDP: clang was missing when it was built")]
    Absent,
    /// The kernel, or a lack of privileges.
    #[error("{0}: {1}")]
    Kernel(&'static str, #[source] io::Error),
    /// There is no function to be asked.
    #[error(
        "no module viaduct with types (BTF) is loaded, or CAP_SYS_ADMIN is missing to see them"
    )]
    NotAsked,
    /// The object does not fit.
    #[error("the relay's program: {0}")]
    Object(String),
}

impl XdpFault {
    /// May the same do in a while? The kernel makes entries of maps from memory it has set aside, and
    /// many at a time may find none of it left.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, XdpFault::Kernel(_, error) if error.raw_os_error() == Some(Errno::ENOMEM as i32))
    }
}

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the kernel, for a driver that cannot, or not send what came from another.
    Generic,
    /// Jumped to by another program in the driver.
    BehindNative,
    /// Jumped to by another program in the kernel.
    BehindGeneric,
}

impl Mode {
    fn is_native(self) -> bool {
        matches!(self, Self::Native | Self::BehindNative)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::BehindNative => "native, behind SIP",
            Self::BehindGeneric => "generic, behind SIP",
        })
    }
}

/// An interface that is served.
struct Served {
    mode: Mode,
    device: Device,
    /// Detaches when dropped; `None`: jumped to.
    _link: Option<XdpLink>,
}

/// The loaded program. It is detached when dropped, and by the kernel when the process dies.
pub struct Program {
    ebpf: Ebpf,
    devices: BpfHash<MapData, u32, Device>,
    served: HashMap<u32, Served>,
    consult: Option<Consult>,
}

/// Loads the program, for so many legs at once.
///
/// # Errors
/// The kernel refuses, or privileges are missing.
pub fn load(legs_max: u32) -> Result<(Program, Table), XdpFault> {
    if OBJECT.is_empty() {
        return Err(XdpFault::Absent);
    }
    let mut loader = EbpfLoader::new();
    for table in ["legs", "tallies"] {
        loader.map_max_entries(table, legs_max.max(2));
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| fault("load", &error))?;
    let program: &mut Xdp = find(ebpf.program_mut("relay"), "relay")?.try_into().map_err(object)?;
    program.load().map_err(|error| fault("load", &error))?;
    let devices = take(&mut ebpf, "devices")?.try_into().map_err(object)?;
    let (legs, tallies) = (take(&mut ebpf, "legs")?, take(&mut ebpf, "tallies")?);
    let table = Table::new(legs, tallies, take(&mut ebpf, "events")?, legs_max)?;
    Ok((Program { ebpf, devices, served: HashMap::new(), consult: None }, table))
}

impl Program {
    /// Puts the program in front of the stack of an interface: in its driver where that can also
    /// send what another driver has received.
    ///
    /// # Errors
    /// The kernel refuses: another program is there, or privileges are missing.
    pub fn attach(&mut self, index: u32, mac: [u8; 6]) -> Result<Mode, XdpFault> {
        self.leave(index);
        let native = self.link(index, XdpMode::Driver).ok().filter(|_| can_send(index));
        let (mode, link) = match native {
            Some(link) => (Mode::Native, link),
            None => (Mode::Generic, self.link(index, XdpMode::Skb)?),
        };
        self.serve(index, mac, mode, Some(link))?;
        Ok(mode)
    }

    /// Puts it in the driver of an interface even if that cannot send: what it would relay goes up the
    /// stack then, and the rest is still seen before the stack makes anything of it.
    ///
    /// # Errors
    /// As [`Program::attach`]; the driver cannot.
    pub fn attach_in_driver(&mut self, index: u32, mac: [u8; 6]) -> Result<(), XdpFault> {
        self.leave(index);
        let link = self.link(index, XdpMode::Driver)?;
        self.serve(index, mac, Mode::Native, Some(link))
    }

    /// Another program is in front of the stack of this interface and jumps here.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn follow(&mut self, index: u32, mac: [u8; 6], is_native: bool) -> Result<Mode, XdpFault> {
        let mode = if is_native { Mode::BehindNative } else { Mode::BehindGeneric };
        self.serve(index, mac, mode, None)?;
        Ok(mode)
    }

    /// Leaves an interface. Packets then go up its stack.
    pub fn leave(&mut self, index: u32) {
        // The link first: its program must not see a device that is not there.
        drop(self.served.remove(&index));
        self.devices.remove(&index).ok();
    }

    /// How an interface is served.
    #[must_use]
    pub fn mode(&self, index: u32) -> Option<Mode> {
        self.served.get(&index).map(|served| served.mode)
    }

    /// The interfaces that are served.
    pub fn served(&self) -> impl Iterator<Item = (u32, Mode)> {
        self.served.iter().map(|(index, served)| (*index, served.mode))
    }

    /// Looks again at what a device can do; the kernel tells nobody when that changes. An interface
    /// whose driver cannot send any more is attached anew.
    ///
    /// # Errors
    /// As [`Program::attach`].
    pub fn look_again(&mut self, index: u32) -> Result<(), XdpFault> {
        let Some(served) = self.served.get_mut(&index) else { return Ok(()) };
        let (mode, now) = (served.mode, u8::from(can_send(index)));
        if served.device.can_send == now {
            return Ok(());
        }
        if mode == Mode::Native {
            let mac = served.device.mac;
            return self.attach(index, mac).map(drop);
        }
        served.device.can_send = now;
        let device = served.device;
        self.devices.insert(index, device, 0).map_err(|error| fault("devices", &error))
    }

    /// The kernel's number of the program.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn id(&mut self) -> Result<u32, XdpFault> {
        let info = self.xdp()?.info().map_err(|error| fault("info", &error))?;
        Ok(info.id())
    }

    /// A descriptor of the program, for another one that is to jump to it.
    ///
    /// # Errors
    /// There is no room for one more.
    pub fn descriptor(&mut self) -> Result<ProgramFd, XdpFault> {
        let fd = self.xdp()?.fd().map_err(|error| fault("descriptor", &error))?;
        fd.try_clone().map_err(|error| XdpFault::Kernel("descriptor", error))
    }

    /// Has the kernel module asked about what is not relayed here, whose rules name these CPUs, until
    /// [`Program::consult_no_more`]. Returns those of them this machine does not have.
    ///
    /// # Errors
    /// The module is not there or cannot be asked, or privileges are missing: `CAP_SYS_ADMIN`, too.
    pub fn consult(&mut self, cpus: impl IntoIterator<Item = u16>) -> Result<Vec<u16>, XdpFault> {
        self.consult_no_more()?;
        let consult = Consult::load(cpus)?;
        let Some(Map::ProgramArray(next)) = self.ebpf.map("next") else {
            return Err(XdpFault::Object("no next".to_owned()));
        };
        consult.follow(next.fd().as_fd())?;
        let without = consult.without.clone();
        self.consult = Some(consult);
        Ok(without)
    }

    /// Lets go of the module; what is not relayed here goes up the stack at once.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn consult_no_more(&mut self) -> Result<(), XdpFault> {
        if self.consult.is_some() {
            let next = find(self.ebpf.map_mut("next"), "next")?;
            let mut next = ProgramArray::try_from(next).map_err(object)?;
            next.clear_index(&0).map_err(|error| fault("next", &error))?;
        }
        self.consult = None;
        Ok(())
    }

    /// Whether the module is asked.
    #[must_use]
    pub fn consults(&self) -> bool {
        self.consult.is_some()
    }

    /// How often each of [`CONSULTED`] was since the module is asked.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn consulted(&self) -> Result<[u64; CONSULTED.len()], XdpFault> {
        self.consult.as_ref().map_or(Ok([0; CONSULTED.len()]), Consult::outcomes)
    }

    /// How often each of [`OUTCOMES`] was.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn outcomes(&self) -> Result<[u64; OUTCOMES.len()], XdpFault> {
        let map = find(self.ebpf.map("outcomes"), "outcomes")?;
        let map: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map).map_err(object)?;
        let mut counts = [0u64; OUTCOMES.len()];
        for (index, count) in (0u32..).zip(&mut counts) {
            let values = map.get(&index, 0).map_err(|error| fault("outcomes", &error))?;
            *count = values.iter().fold(0, |sum, value| sum.wrapping_add(*value));
        }
        Ok(counts)
    }

    fn serve(
        &mut self,
        index: u32,
        mac: [u8; 6],
        mode: Mode,
        link: Option<XdpLink>,
    ) -> Result<(), XdpFault> {
        let can_send = can_send(index).into();
        let device = Device { mac, is_native: mode.is_native().into(), can_send };
        self.devices.insert(index, device, 0).map_err(|error| fault("devices", &error))?;
        self.served.insert(index, Served { mode, device, _link: link });
        Ok(())
    }

    fn link(&mut self, index: u32, mode: XdpMode) -> Result<XdpLink, XdpFault> {
        let program = self.xdp()?;
        let id =
            program.attach_to_if_index(index, mode).map_err(|error| fault("attach", &error))?;
        program.take_link(id).map_err(|error| fault("attach", &error))
    }

    fn xdp(&mut self) -> Result<&mut Xdp, XdpFault> {
        find(self.ebpf.program_mut("relay"), "relay")?.try_into().map_err(object)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.served()).finish()
    }
}

/// Where the kernel does not tell, it cannot.
fn can_send(index: u32) -> bool {
    Devices::open().and_then(|devices| devices.can_send(index)).unwrap_or(false)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, XdpFault> {
    find(ebpf.take_map(name), name)
}

fn find<T>(found: Option<T>, name: &str) -> Result<T, XdpFault> {
    found.ok_or_else(|| XdpFault::Object(format!("no {name}")))
}

pub(super) fn object(error: impl fmt::Display) -> XdpFault {
    XdpFault::Object(error.to_string())
}

/// The kernel's own reason where there is one in the chain of causes.
pub(super) fn fault(what: &'static str, error: &(dyn std::error::Error + 'static)) -> XdpFault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return XdpFault::Kernel(what, io::Error::from_raw_os_error(code));
        }
        cause = error.source();
    }
    let causes = std::iter::successors(Some(error), |error| error.source());
    let words: Vec<String> = causes.map(ToString::to_string).collect();
    XdpFault::Object(format!("{what}: {}", words.join(": ")))
}
