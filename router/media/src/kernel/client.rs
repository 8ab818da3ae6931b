//! The conversation with the module.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::names::*;
use super::steering::{self, Rule, RuleReport};
use super::wire::{self, Attrs, Message, Received};
use super::{decode, encode};
use crate::executor::{Executor, ExecutorError};
use crate::session::{Event, Leg, Report, Session};

/// Sessions in one message: what the module takes at once.
const BATCH_MAX: usize = 256;
/// An attribute's length is 16 bits, and all sessions of a message are in one.
const BATCH_OCTETS_MAX: usize = 60_000;
/// A dump that keeps changing is taken as it is after so many tries.
const DUMP_ATTEMPTS: usize = 4;
/// The largest datagram the kernel makes of a dump.
pub(super) const DATAGRAM: usize = 65_536;

/// Room for what the module says of 20,000 sessions at once when it is unloaded, in octets.
const EVENTS_ROOM: usize = 64 << 20;

pub(super) const CTRL_FAMILY: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
pub(super) const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

/// Who the sessions belong to, from one process to the next (R-M8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Chosen by the operator or kept in the state folder; not 0.
    pub id: u64,
    /// How long the module keeps the sessions when this process is gone, 1 to 86,400.
    pub grace_s: u32,
}

/// The module, asked over generic netlink by the owner of the sessions.
#[derive(Debug)]
pub struct KernelRelay {
    family: u16,
    orders: Socket,
    events: Socket,
    sequence: u32,
    owner: u64,
    found: u32,
}

impl KernelRelay {
    /// Attaches to the module of the current network namespace.
    ///
    /// # Errors
    /// The module is not loaded, this process lacks `CAP_NET_ADMIN`, or another process is attached
    /// as the same owner.
    pub fn attach(owner: Owner) -> Result<Self, ExecutorError> {
        let orders = socket()?;
        // So that a refusal says why; without it there is an error number only.
        orders.set_ext_ack(true).ok();
        let events = socket()?;
        let (family, owner_id) = (CTRL_FAMILY, owner.id);
        let mut relay = Self { family, orders, events, sequence: 0, owner: owner_id, found: 0 };
        let group = relay.resolve()?;
        // Where that is not allowed, some of those are not heard.
        setsockopt(&relay.events, sockopt::RcvBufForce, &EVENTS_ROOM).ok();
        relay.events.add_membership(group)?;
        relay.events.set_non_blocking(true)?;
        let mut attrs = Attrs::default();
        attrs.put_u64(A_OWNER, owner.id).put_u32(A_GRACE_S, owner.grace_s);
        relay.found = relay
            .answer(CMD_ATTACH, &attrs, |message| message.u32(A_SESSIONS))?
            .ok_or(ExecutorError::Answer("how many sessions there are is missing"))?;
        Ok(relay)
    }

    /// How many sessions the owner had already when this process attached.
    #[must_use]
    pub fn sessions_found(&self) -> u32 {
        self.found
    }

    /// Removes all sessions of the owner, and the owner.
    ///
    /// # Errors
    /// The module is gone.
    pub fn detach(mut self) -> Result<(), ExecutorError> {
        self.order(CMD_DETACH, &Attrs::default())
    }

    /// Takes the packets of an interface at its ingress, before the IP layer, for as long as the owner
    /// and the interface are there. What is relayed from it leaves past the IP layer and its firewall too.
    ///
    /// # Errors
    /// There is no interface of this index, it has been added already, or the kernel cannot.
    pub fn add_device(&mut self, index: u32) -> Result<(), ExecutorError> {
        self.device(CMD_DEVICE_ADD, index)
    }

    /// Leaves the packets of an interface to the IP layer again; they are taken behind it.
    ///
    /// # Errors
    /// The owner has not added it, or it is gone.
    pub fn remove_device(&mut self, index: u32) -> Result<(), ExecutorError> {
        self.device(CMD_DEVICE_DEL, index)
    }

    fn device(&mut self, command: u8, index: u32) -> Result<(), ExecutorError> {
        let mut attrs = Attrs::default();
        attrs.put_u32(A_DEVICE, index);
        self.order(command, &attrs)
    }

    /// Adds a steering rule; those with lower numbers are asked first.
    ///
    /// # Errors
    /// There is one of this number, there is no room, or it names a CPU this machine cannot have.
    pub fn add_rule(&mut self, id: u32, rule: &Rule) -> Result<(), ExecutorError> {
        let mut attrs = Attrs::default();
        attrs.nest(A_RULE, &steering::encode(id, rule));
        self.order(CMD_RULE_ADD, &attrs)
    }

    /// Removes a rule of the owner.
    ///
    /// # Errors
    /// The owner has none of this number.
    pub fn remove_rule(&mut self, id: u32) -> Result<(), ExecutorError> {
        let mut rule = Attrs::default();
        rule.put_u32(R_ID, id);
        let mut attrs = Attrs::default();
        attrs.nest(A_RULE, &rule);
        self.order(CMD_RULE_DEL, &attrs)
    }

    /// The rules of the owner and what they have done.
    ///
    /// # Errors
    /// The module is gone.
    pub fn rules(&mut self) -> Result<Vec<RuleReport>, ExecutorError> {
        let (mut rules, owner) = (Vec::new(), self.owner);
        self.converse(CMD_RULE_GET, wire::NLM_F_DUMP, &Attrs::default(), |_, message| {
            rules.extend(steering::decode(message, owner));
            Ok(())
        })?;
        Ok(rules)
    }

    /// Asks for the numbers of the family; returns that of the group of events.
    fn resolve(&mut self) -> Result<u32, ExecutorError> {
        let mut attrs = Attrs::default();
        attrs.put(CTRL_ATTR_FAMILY_NAME, format!("{FAMILY}\0").as_bytes());
        let found = self.answer(CTRL_CMD_GETFAMILY, &attrs, |message| {
            let groups = message.nested(CTRL_ATTR_MCAST_GROUPS)?;
            let wanted = format!("{GROUP}\0");
            let group = groups
                .iter()
                .map(|(_, value)| Received::of(value))
                .find(|group| group.get(CTRL_ATTR_MCAST_GRP_NAME) == Some(wanted.as_bytes()))?;
            Some((message.u16(CTRL_ATTR_FAMILY_ID)?, group.u32(CTRL_ATTR_MCAST_GRP_ID)?))
        });
        let (family, group) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Err(ExecutorError::Answer("the family has no events")),
            Err(ExecutorError::Refused { errno, .. })
                if errno.kind() == io::ErrorKind::NotFound =>
            {
                let why = "the kernel module viaduct is not loaded".to_owned();
                return Err(ExecutorError::Unavailable(why));
            }
            Err(error) => return Err(error),
        };
        self.family = family;
        Ok(group)
    }

    fn order(&mut self, command: u8, attrs: &Attrs) -> Result<(), ExecutorError> {
        self.converse(command, wire::NLM_F_ACK, attrs, |_, _| Ok(()))
    }

    fn answer<T>(
        &mut self,
        command: u8,
        attrs: &Attrs,
        read: impl Fn(Received<'_>) -> T,
    ) -> Result<T, ExecutorError> {
        let mut answer = None;
        self.converse(command, wire::NLM_F_ACK, attrs, |_, message| {
            answer = Some(read(message));
            Ok(())
        })?;
        answer.ok_or(ExecutorError::Answer("there was none"))
    }

    /// Sends a request and hands over what comes until it is acknowledged.
    fn converse(
        &mut self,
        command: u8,
        flags: u16,
        attrs: &Attrs,
        mut each: impl FnMut(u16, Received<'_>) -> Result<(), ExecutorError>,
    ) -> Result<(), ExecutorError> {
        self.sequence = self.sequence.wrapping_add(1);
        let flags = flags | wire::NLM_F_REQUEST;
        let command = (command, FAMILY_VERSION);
        let request = wire::request(self.family, flags, self.sequence, command, attrs);
        self.orders.send(&request, 0)?;
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            self.orders.recv(&mut datagram, 0)?;
            for (sequence, message) in wire::messages(&datagram) {
                if sequence != self.sequence {
                    continue; // of a request given up earlier
                }
                match message {
                    Message::Done => return Ok(()),
                    Message::Refused(error) => return Err(error),
                    Message::Data { flags, attrs, .. } => each(flags, attrs)?,
                }
            }
        }
    }

    fn add_batch(&mut self, list: &Attrs) -> Result<(), ExecutorError> {
        let mut attrs = Attrs::default();
        attrs.nest(A_SESSION_LIST, list);
        self.order(CMD_ADD, &attrs)
    }

    /// Becomes readable when there are events.
    pub(crate) fn events_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }

    /// All sessions of this owner; whether they changed meanwhile.
    fn dump(&mut self) -> Result<(Vec<Report>, bool), ExecutorError> {
        let (mut reports, mut changed) = (Vec::new(), false);
        let (flags, owner) = (wire::NLM_F_DUMP, self.owner);
        self.converse(CMD_GET, flags, &Attrs::default(), |flags, message| {
            changed |= flags & wire::NLM_F_DUMP_INTR != 0;
            if decode::owner(message) == Some(owner) {
                reports.push(decode::report(message)?);
            }
            Ok(())
        })?;
        Ok((reports, changed))
    }
}

impl Executor for KernelRelay {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        let mut list = Attrs::default();
        let (mut in_list, mut added) = (0, Vec::new());
        for (position, session) in sessions.iter().enumerate() {
            let attrs = encode::session(session);
            list.nest(1, &attrs);
            in_list += 1;
            let is_last = position + 1 == sessions.len();
            let is_full = in_list == BATCH_MAX || list.len() + attrs.len() > BATCH_OCTETS_MAX;
            if !is_last && !is_full {
                continue;
            }
            if let Err(error) = self.add_batch(&list) {
                // The module undid this message; those before it are ours to undo.
                for local in added {
                    self.remove(local).ok();
                }
                return Err(error);
            }
            let done = sessions.get(position + 1 - in_list..=position).unwrap_or_default();
            added.extend(done.iter().map(|session| session.legs[0].local));
            (list, in_list) = (Attrs::default(), 0);
        }
        Ok(())
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        let mut session = Attrs::default();
        for (kind, leg) in [S_LEG_A, S_LEG_B].into_iter().zip(legs) {
            session.nest(kind, &encode::leg(leg));
        }
        let mut attrs = Attrs::default();
        attrs.nest(A_SESSION, &session);
        self.order(CMD_SET, &attrs)
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let mut attrs = Attrs::default();
        attrs.nest(A_SESSION, &encode::named(local));
        self.answer(CMD_DEL, &attrs, decode::report)?
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let mut attrs = Attrs::default();
        attrs.nest(A_SESSION, &encode::named(local));
        self.answer(CMD_GET, &attrs, decode::report)?
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        let (mut reports, mut changed) = self.dump()?;
        for _ in 1..DUMP_ATTEMPTS {
            if !changed {
                break;
            }
            (reports, changed) = self.dump()?;
        }
        Ok(reports)
    }

    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        let mut events = Vec::new();
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            match self.events.recv(&mut datagram, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                // Some were lost, the next ones are there.
                Err(error) if is_overrun(&error) => continue,
                Err(error) => return Err(error.into()),
            }
            events.extend(decode::heard(&datagram));
        }
    }
}

/// The socket's buffer was full.
pub(super) fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32)
}

pub(super) fn socket() -> Result<Socket, ExecutorError> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    Ok(socket)
}
