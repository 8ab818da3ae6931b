//! The program that asks the kernel module where its rules want packets, and sends them there in front
//! of the stack (`bpf/consult.bpf.c`). It calls a function of the module, which only libbpf knows how to
//! find, so it alone is loaded by that.
//!
//! Unsafe are the calls of libbpf, each by itself.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use aya::maps::{CpuMap, Map, MapData, PerCpuArray};
use aya::util::nr_cpus;
use libbpf_sys as libbpf;
use nix::errno::Errno;

use super::program::{XdpFault, fault, object};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/consult.bpf.o"));

/// Packets that may wait for a CPU; more are dropped. Twice what the module's own queues hold, as here a
/// thread has to be woken.
const QUEUE: u32 = 2_048;
/// Octets of what the kernel says about a program it refuses.
const LOG: usize = 65_536;

/// What the program did with packets nobody had relayed before, in the order of its counters: sent to
/// another CPU, or left where they were and why.
pub const CONSULTED: [&str; 7] = [
    "steer_moved",
    "steer_here",
    "steer_no_rule",
    "steer_unread",
    "steer_checksum",
    "steer_no_queue",
    "steer_refused",
];

/// Whether the module is there and can be asked.
#[must_use]
pub fn can_consult() -> bool {
    Path::new("/sys/kernel/btf/viaduct").exists()
}

/// The loaded program. The module cannot be unloaded as long as it is there.
pub(super) struct Consult {
    program: OwnedFd,
    consulted: PerCpuArray<MapData, u64>,
    /// CPUs this machine does not have, which get nothing.
    pub(super) without: Vec<u16>,
}

impl Consult {
    /// Loads the program, for rules that name these CPUs. Each costs a kernel thread.
    pub(super) fn load(cpus: impl IntoIterator<Item = u16>) -> Result<Self, XdpFault> {
        if OBJECT.is_empty() {
            return Err(XdpFault::Absent);
        }
        let all = nr_cpus().map_err(|(_, error)| XdpFault::Kernel("CPUs", error))?;
        let object = Object::load(OBJECT, u32::try_from(all).unwrap_or(u32::MAX))?;
        let map = MapData::from_fd(object.map(c"cpus")?).map_err(|error| fault("cpus", &error))?;
        let mut queues = CpuMap::try_from(Map::CpuMap(map)).map_err(self::object)?;
        let mut without = Vec::new();
        for cpu in cpus {
            if usize::from(cpu) >= all {
                without.push(cpu);
                continue;
            }
            let set = queues.set(cpu.into(), QUEUE, None, 0);
            set.map_err(|error| fault("a queue for a CPU", &error))?;
        }
        let map = MapData::from_fd(object.map(c"consulted")?);
        let map = Map::PerCpuArray(map.map_err(|error| fault("consulted", &error))?);
        let consulted = PerCpuArray::try_from(map).map_err(self::object)?;
        Ok(Self { program: object.program(c"consult")?, consulted, without })
    }

    /// Makes it the program that another one jumps to, whose map this is.
    pub(super) fn follow(&self, slots: BorrowedFd<'_>) -> Result<(), XdpFault> {
        let (place, program) = (0u32, self.program.as_raw_fd());
        // SAFETY: the map's keys and values are of 4 octets each, as these are; both are only read.
        let refused = unsafe {
            libbpf::bpf_map_update_elem(
                slots.as_raw_fd(),
                (&raw const place).cast::<c_void>(),
                (&raw const program).cast::<c_void>(),
                0,
            )
        };
        succeeded("jump", refused)
    }

    /// How often each of [`CONSULTED`] was.
    pub(super) fn outcomes(&self) -> Result<[u64; CONSULTED.len()], XdpFault> {
        let mut counts = [0u64; CONSULTED.len()];
        for (index, count) in (0u32..).zip(&mut counts) {
            let values =
                self.consulted.get(&index, 0).map_err(|error| fault("consulted", &error))?;
            *count = values.iter().fold(0, |sum, value| sum.wrapping_add(*value));
        }
        Ok(counts)
    }
}

/// An object of libbpf's. What it has put into the kernel stays there for whoever holds descriptors.
struct Object(NonNull<libbpf::bpf_object>);

impl Object {
    fn load(bytes: &'static [u8], cpus: u32) -> Result<Self, XdpFault> {
        let quiet = Quiet::begin();
        let mut log: Vec<c_char> = vec![0; LOG];
        let options = libbpf::bpf_object_open_opts {
            sz: size_of::<libbpf::bpf_object_open_opts>() as libbpf::size_t,
            object_name: c"consult".as_ptr(),
            kernel_log_buf: log.as_mut_ptr(),
            kernel_log_size: LOG as libbpf::size_t,
            ..libbpf::bpf_object_open_opts::default()
        };
        // SAFETY: the bytes and the name live as long as the process, the log until the object has
        // been loaded, and `sz` says how much of the options there is.
        let opened = unsafe {
            let at = bytes.as_ptr().cast::<c_void>();
            libbpf::bpf_object__open_mem(at, bytes.len() as libbpf::size_t, &raw const options)
        };
        let found = NonNull::new(opened);
        let found = Self(found.ok_or_else(|| kernel("open", Errno::last_raw()))?);
        // SAFETY: the object is ours and not loaded yet; the name is a string of C's.
        let refused = unsafe {
            let map = libbpf::bpf_object__find_map_by_name(found.0.as_ptr(), c"cpus".as_ptr());
            libbpf::bpf_map__set_max_entries(map, cpus)
        };
        succeeded("cpus", refused)?;
        // SAFETY: the object is ours, and what it refers to is still there.
        let refused = unsafe { libbpf::bpf_object__load(found.0.as_ptr()) };
        drop(quiet);
        // SAFETY: the kernel ends what it writes with a 0, and all was 0 before.
        let said = unsafe { CStr::from_ptr(log.as_ptr()) };
        // That it has not found the function libbpf does not tell from other errors; but then it has not
        // come to ask the kernel.
        if refused == -(Errno::EINVAL as i32) && said.is_empty() {
            return Err(XdpFault::NotAsked);
        }
        if refused < 0 {
            tracing::debug!(target: "viaduct::media", ?said, "the kernel refuses the program");
        }
        succeeded("load", refused).map(|()| found)
    }

    /// A descriptor of a map, of its own.
    fn map(&self, name: &CStr) -> Result<OwnedFd, XdpFault> {
        // SAFETY: the object is loaded, and the name is a string of C's.
        let fd = unsafe { libbpf::bpf_object__find_map_fd_by_name(self.0.as_ptr(), name.as_ptr()) };
        self.owned("a map", fd)
    }

    /// A descriptor of a program, of its own.
    fn program(&self, name: &CStr) -> Result<OwnedFd, XdpFault> {
        // SAFETY: the object is loaded, the name is a string of C's; a program that is not there has
        // no descriptor, and says so.
        let fd = unsafe {
            let found = libbpf::bpf_object__find_program_by_name(self.0.as_ptr(), name.as_ptr());
            libbpf::bpf_program__fd(found)
        };
        self.owned("the program", fd)
    }

    /// A second descriptor for what the object has this one of.
    fn owned(&self, what: &'static str, fd: i32) -> Result<OwnedFd, XdpFault> {
        succeeded(what, fd)?;
        // SAFETY: the object keeps it open, and is borrowed until it has been duplicated.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        borrowed.try_clone_to_owned().map_err(|error| XdpFault::Kernel(what, error))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: it was opened here, and nothing refers to it any more.
        unsafe { libbpf::bpf_object__close(self.0.as_ptr()) }
    }
}

/// While this is there libbpf says nothing on its own; what matters is in its answers. One at a time,
/// as what it is put back to is of the whole process.
struct Quiet {
    before: libbpf::libbpf_print_fn_t,
    _turn: std::sync::MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Quiet {
    fn begin() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a call without conditions; libbpf exchanges the function at once.
        let before = unsafe { libbpf::libbpf_set_print(None) };
        Self { before, _turn: turn }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: as above; the function is the one that was there.
        unsafe { libbpf::libbpf_set_print(self.before) };
    }
}

fn kernel(what: &'static str, code: i32) -> XdpFault {
    XdpFault::Kernel(what, io::Error::from_raw_os_error(code))
}

/// libbpf's answers are 0 or an error, negated.
fn succeeded(what: &'static str, answer: i32) -> Result<(), XdpFault> {
    if answer < 0 { Err(kernel(what, answer.saturating_neg())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_module_it_is_refused_for_a_reason_and_leaves_nothing_behind() {
        if can_consult() {
            println!("skipped: the module is there, and the relay suite has its turn");
            return;
        }
        for _ in 0..3 {
            match Consult::load([0]).err() {
                // As the kernel lets us.
                Some(XdpFault::NotAsked | XdpFault::Absent) => {}
                Some(XdpFault::Kernel(_, error)) => {
                    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_of_libbpf_is_an_error_or_none() {
        assert!(succeeded("x", 0).is_ok() && succeeded("x", 7).is_ok());
        let Err(XdpFault::Kernel("x", error)) = succeeded("x", -libc_einval()) else { panic!() };
        assert_eq!(error.raw_os_error(), Some(libc_einval()));
    }

    fn libc_einval() -> i32 {
        Errno::EINVAL as i32
    }
}
