//! What a device can do for XDP, by the kernel's generic netlink family `netdev` (Linux 6.3).

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use crate::executor::ExecutorError;
use crate::kernel::wire::{self, Attrs, Message, Received};

const CTRL_FAMILY: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_VERSION: u8 = 1;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_VERSION: u8 = 1;
/// It sends what another device's driver has received.
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 1 << 2;

/// A way to ask.
pub(super) struct Devices {
    socket: Socket,
    family: u16,
}

impl Devices {
    /// `Err`: the kernel does not tell.
    pub(super) fn open() -> Result<Self, ExecutorError> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut attrs = Attrs::default();
        attrs.put(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        let request = (CTRL_FAMILY, CTRL_CMD_GETFAMILY, CTRL_VERSION);
        let family = ask(&socket, request, &attrs, |answer| answer.u16(CTRL_ATTR_FAMILY_ID))?;
        let family = family.ok_or(ExecutorError::Answer("the family netdev has no number"))?;
        Ok(Self { socket, family })
    }

    /// Whether a device sends what another one's driver has received.
    pub(super) fn can_send(&self, index: u32) -> Result<bool, ExecutorError> {
        let mut attrs = Attrs::default();
        attrs.put_u32(NETDEV_A_DEV_IFINDEX, index);
        let request = (self.family, NETDEV_CMD_DEV_GET, NETDEV_VERSION);
        let features =
            ask(&self.socket, request, &attrs, |answer| answer.u64(NETDEV_A_DEV_XDP_FEATURES))?;
        Ok(features.unwrap_or(0) & NETDEV_XDP_ACT_NDO_XMIT != 0)
    }
}

fn ask<T>(
    socket: &Socket,
    (family, command, version): (u16, u8, u8),
    attrs: &Attrs,
    read: impl Fn(Received<'_>) -> Option<T>,
) -> Result<Option<T>, ExecutorError> {
    let flags = wire::NLM_F_REQUEST | wire::NLM_F_ACK;
    socket.send(&wire::request(family, flags, 1, (command, version), attrs), 0)?;
    let mut answer = None;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for (_, message) in wire::messages(&datagram) {
            match message {
                Message::Done => return Ok(answer),
                Message::Refused(error) => return Err(error),
                Message::Data { attrs, .. } => answer = read(attrs),
            }
        }
    }
}
