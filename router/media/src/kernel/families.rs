//! Tells when the module comes and goes: the kernel announces each family of generic netlink.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

use netlink_sys::Socket;

use super::client::{CTRL_ATTR_FAMILY_NAME, CTRL_FAMILY, DATAGRAM, is_overrun, socket};
use super::names::FAMILY;
use super::wire::{self, Message};
use crate::executor::ExecutorError;

/// The controller's group of announcements has its family's number.
const NOTIFY: u32 = CTRL_FAMILY as u32;
const CTRL_CMD_NEWFAMILY: u8 = 1;
const CTRL_CMD_DELFAMILY: u8 = 2;

/// What became of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// It is loaded now.
    Come,
    /// It is being unloaded.
    Gone,
}

/// A subscription to the announcements. It wants no capability.
#[derive(Debug)]
pub(crate) struct Families(Socket);

impl Families {
    pub(crate) fn subscribe() -> Result<Self, ExecutorError> {
        let socket = socket()?;
        socket.add_membership(NOTIFY)?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Becomes readable when there are announcements.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The announcements about the module that have come, in order.
    pub(crate) fn read(&self) -> Result<Vec<Announced>, ExecutorError> {
        let mut announced = Vec::new();
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            match self.0.recv(&mut datagram, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(announced),
                Err(error) if is_overrun(&error) => continue,
                Err(error) => return Err(error.into()),
            }
            for (_, message) in wire::messages(&datagram) {
                let Message::Data { command, attrs, .. } = message else { continue };
                let name =
                    attrs.get(CTRL_ATTR_FAMILY_NAME).and_then(|name| name.strip_suffix(b"\0"));
                if name != Some(FAMILY.as_bytes()) {
                    continue;
                }
                match command {
                    CTRL_CMD_NEWFAMILY => announced.push(Announced::Come),
                    CTRL_CMD_DELFAMILY => announced.push(Announced::Gone),
                    _ => {}
                }
            }
        }
    }
}
