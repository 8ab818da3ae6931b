//! The media relay's program in front of the stack: by itself on the interfaces that have a media
//! address, or behind the steering program where that is. Where it cannot be, packets reach the
//! relay's sockets, which serve the same calls.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use viaduct_media::xdp::{self, CONSULTED, Mode, OUTCOMES, Program, XdpFault};
use viaduct_transport::xdp::{Attachment, Interface, Rung};

/// Wait after a refusal.
const RETRY: Duration = Duration::from_secs(30);

pub(super) struct MediaSites {
    program: Program,
    /// The kernel's number of it.
    id: u32,
    addrs: Vec<IpAddr>,
    /// What is known of interfaces, by number.
    known: HashMap<u32, Known>,
    /// CPUs the kernel module's rules name, where it is to be asked about what the program passes up.
    cpus: Option<Vec<u16>>,
    /// Why it is not, and until when that is taken as it is.
    unasked: (String, Option<Instant>),
}

struct Known {
    name: String,
    mac: [u8; 6],
    /// Why it is not served, and until when that is taken as it is.
    refused: Option<(String, Instant)>,
}

impl MediaSites {
    /// For packets to these addresses. With `cpus`, the module is asked about those it does not relay.
    pub(super) fn new(
        mut program: Program,
        addrs: Vec<IpAddr>,
        cpus: Option<Vec<u16>>,
    ) -> Option<MediaSites> {
        let (known, unasked) = (HashMap::new(), (String::new(), None));
        match program.id() {
            Ok(id) => Some(MediaSites { program, id, addrs, known, cpus, unasked }),
            Err(fault) => {
                tracing::warn!(target: "viaduct::media", %fault, "no relay in XDP: user space");
                None
            }
        }
    }

    /// The steering program is to be attached to this interface, which has room for one.
    pub(super) fn make_room(&mut self, index: u32) {
        if matches!(self.program.mode(index), Some(Mode::Native | Mode::Generic)) {
            self.program.leave(index);
        }
    }

    /// Compares what is with what should be. `steered` are the interfaces with a steering program.
    pub(super) fn look(&mut self, now: &[Interface], steered: &mut [&mut Attachment]) {
        let wanted: Vec<&Interface> = now.iter().filter(|i| self.is_wanted(i)).collect();
        let served: Vec<u32> = self.program.served().map(|(index, _)| index).collect();
        for index in served {
            if !wanted.iter().any(|interface| interface.index == index) {
                self.program.leave(index);
                tracing::info!(target: "viaduct::media", index, "an interface is left");
            }
        }
        self.known.retain(|index, _| wanted.iter().any(|interface| interface.index == *index));
        for interface in wanted {
            let on_it =
                |open: &&mut &mut Attachment| open.plan().interface.index == interface.index;
            let steering = steered.iter_mut().find(on_it).map(|open| &mut **open);
            if let Err(fault) = self.look_at(interface, steering) {
                let reason = fault.to_string();
                let name = &interface.name;
                tracing::info!(target: "viaduct::media", interface = name, reason, "no relay in XDP");
                let until = Instant::now().checked_add(RETRY).unwrap_or_else(Instant::now);
                if let Some(known) = self.known.get_mut(&interface.index) {
                    known.refused = Some((reason, until));
                }
            }
        }
    }

    /// Has the module asked where that is wished and can be had. It cannot go while it is asked, so what
    /// is to be noticed is that it comes.
    pub(super) fn ask(&mut self) {
        let Some(cpus) = self.cpus.as_ref().filter(|_| !self.program.consults()) else { return };
        let (said, until) = &mut self.unasked;
        let is_there = xdp::can_consult();
        // One that has just come is asked at once.
        let waits = until.is_some_and(|until| Instant::now() < until);
        if waits || (!is_there && !said.is_empty()) {
            return;
        }
        match self.program.consult(cpus.iter().copied()) {
            Ok(without) => {
                said.clear();
                tracing::info!(target: "viaduct::media", ?cpus, ?without,
                    "steering before the stack; the module cannot be unloaded meanwhile");
            }
            Err(fault) => {
                let reason = fault.to_string();
                if *said != reason {
                    tracing::warn!(target: "viaduct::media", reason, "no steering before the stack");
                }
                *said = reason;
                *until = Instant::now().checked_add(RETRY).filter(|_| is_there);
            }
        }
    }

    fn is_wanted(&self, interface: &Interface) -> bool {
        let is_wire = interface.is_up && !interface.is_loopback && interface.mac != [0; 6];
        let is_own = interface.vlan_of.is_none();
        is_wire && is_own && self.addrs.iter().any(|addr| interface.addrs.contains(addr))
    }

    fn look_at(
        &mut self,
        interface: &Interface,
        steering: Option<&mut Attachment>,
    ) -> Result<(), XdpFault> {
        let (index, mac) = (interface.index, interface.mac);
        let known = self.known.entry(index).or_insert_with(|| Known {
            name: interface.name.clone(),
            mac,
            refused: None,
        });
        let is_same = std::mem::replace(&mut known.mac, mac) == mac;
        if known.refused.as_ref().is_some_and(|(_, until)| Instant::now() < *until) {
            return Ok(());
        }
        known.refused = None;
        let mode = match (steering, self.program.mode(index)) {
            (Some(open), mode) => {
                let is_native = open.rung() != Rung::Generic;
                let behind = if is_native { Mode::BehindNative } else { Mode::BehindGeneric };
                if open.is_chained() && mode == Some(behind) && is_same {
                    return self.program.look_again(index);
                }
                let mode = self.program.follow(index, mac, is_native)?;
                let chained = open.chain(&self.program.descriptor()?);
                chained.map_err(|fault| XdpFault::Object(fault.to_string()))?;
                mode
            }
            (None, Some(Mode::Native | Mode::Generic))
                if interface.program == self.id && is_same =>
            {
                return self.program.look_again(index);
            }
            (None, _) => self.program.attach(index, mac)?,
        };
        let name = &interface.name;
        tracing::info!(target: "viaduct::media", interface = name, %mode, "relaying in XDP");
        Ok(())
    }

    /// `media by xdp on eth0 (native)`
    pub(super) fn words(&self) -> String {
        let mut each: Vec<String> = self
            .known
            .iter()
            .map(|(index, known)| match (self.program.mode(*index), &known.refused) {
                (Some(mode), _) => format!("{} ({mode})", known.name),
                (None, Some((reason, _))) => format!("not on {} ({reason})", known.name),
                (None, None) => format!("not on {}", known.name),
            })
            .collect();
        each.sort();
        let media = match each.is_empty() {
            true => "media by user space: no interface has a media address".to_owned(),
            false => format!("media by xdp on {}", each.join(", ")),
        };
        match (&self.cpus, self.program.consults()) {
            (None, _) => media,
            (Some(_), true) => format!("{media}; steering before the stack"),
            (Some(_), false) => {
                format!("{media}; no steering before the stack ({})", self.unasked.0)
            }
        }
    }

    /// What became of packets at the program.
    pub(super) fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let counts = self.program.outcomes().unwrap_or_default();
        let relayed = OUTCOMES.into_iter().zip(counts);
        let steered = self.cpus.as_ref().map(|_| self.program.consulted().unwrap_or_default());
        relayed.chain(CONSULTED.into_iter().zip(steered.into_iter().flatten())).collect()
    }
}
