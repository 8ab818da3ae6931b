//! What a card does to frames before any program sees them.
//!
//! Unsafe are a zeroed struct and one system call: no safe wrapper at hand asks it.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;

/// `ETHTOOL_GFLAGS` of linux/ethtool.h: the old way to ask for a few features, which needs no
/// privilege.
const GET_FLAGS: u32 = 0x25;
/// `ETH_FLAG_RXVLAN`.
const TAKES_TAGS_OFF: u32 = 1 << 8;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Does the card take the tags of 802.1Q VLANs off and hand them over beside the frames? A device
/// that knows no such question does not.
pub(super) fn takes_tags_off(interface: &str) -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut value = Value { command: GET_FLAGS, data: 0 };
    // SAFETY: a C struct of integers, arrays and pointers, for which all-zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    let room = request.ifr_name.len().saturating_sub(1);
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(interface.bytes()) {
        *to = from as c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the name and the pointer of `request`, and by it reads and writes one
    // `ethtool_value`, which is what GET_FLAGS takes; both live until the call is over.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if answer == 0 {
        return Ok(value.data & TAKES_TAGS_OFF != 0);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_takes_nothing_off_and_what_is_not_there_is_an_error() {
        assert!(!takes_tags_off("lo").unwrap());
        for name in ["none-such", "", "a-name-that-is-longer-than-any-interface-has"] {
            let fault = takes_tags_off(name).unwrap_err();
            assert_eq!(fault.raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }
}
