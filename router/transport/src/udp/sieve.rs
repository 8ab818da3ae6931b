//! Under pressure the kernel throws away a share of what begins something new, before it is queued:
//! `bpf/sieve.bpf.c`. So the time of those who are served is not spent on reading the others.

use std::os::fd::BorrowedFd;

use aya::maps::{Array, PerCpuArray};
use aya::programs::SocketFilter;
use aya::{Ebpf, EbpfLoader};
use socket2::SockRef;

use crate::xdp::ProgramFault;
use crate::xdp::program::{fault, object};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sieve.bpf.o"));

/// All of them, in thousandths.
const ALL: u16 = 1000;

/// The program with maps of its own. It stays at the sockets it was attached to until it is taken away.
pub struct Sieve {
    ebpf: Ebpf,
    is_attached: bool,
}

impl Sieve {
    /// Loads the program; it is attached to nothing yet.
    ///
    /// # Errors
    /// The kernel refuses it, mostly for want of `CAP_BPF`, or it was not built.
    pub fn load() -> Result<Sieve, ProgramFault> {
        if OBJECT.is_empty() {
            return Err(ProgramFault::Absent);
        }
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(|error| fault("load", &error))?;
        program(&mut ebpf)?.load().map_err(|error| fault("load", &error))?;
        Ok(Sieve { ebpf, is_attached: false })
    }

    /// Of new requests to these sockets, the same each time, so many thousandths are kept from now on; with
    /// 1000 nothing is looked at any more.
    ///
    /// # Errors
    /// The kernel refuses it; what it did before it may go on doing.
    pub fn keep(
        &mut self,
        thousandths: u16,
        sockets: &[BorrowedFd<'_>],
    ) -> Result<(), ProgramFault> {
        if thousandths >= ALL {
            if std::mem::take(&mut self.is_attached) {
                for socket in sockets {
                    let detached = SockRef::from(socket).detach_filter();
                    detached.map_err(|error| fault("detach", &error))?;
                }
            }
            return Ok(());
        }
        let share = u64::from(u32::MAX) * u64::from(thousandths) / u64::from(ALL);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let map = self.ebpf.map_mut("kept").ok_or_else(lacking)?;
        let mut map: Array<_, u32> = Array::try_from(map).map_err(object)?;
        map.set(0, share, 0).map_err(object)?;
        if !std::mem::replace(&mut self.is_attached, true) {
            for socket in sockets {
                let attached = program(&mut self.ebpf)?.attach(socket);
                attached.map_err(|error| fault("attach", &error))?;
            }
        }
        Ok(())
    }

    /// How many it has thrown away.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let counted = || -> Option<u64> {
            let map: PerCpuArray<_, u64> = PerCpuArray::try_from(self.ebpf.map("dropped")?).ok()?;
            Some(map.get(&0, 0).ok()?.iter().sum())
        };
        counted().unwrap_or(0)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut SocketFilter, ProgramFault> {
    let program = ebpf.program_mut("sieve");
    program.ok_or_else(lacking)?.try_into().map_err(object)
}

fn lacking() -> ProgramFault {
    object("the sieve lacks its program or a map")
}
