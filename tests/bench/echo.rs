//! The floor: one datagram in, the same one out, nothing else. No batching, no parsing.

use std::net::{SocketAddr, UdpSocket};

use anyhow::Result;

/// Echoes until killed.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(address)?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        if let Some(datagram) = buffer.get(..length) {
            socket.send_to(datagram, from)?;
        }
    }
}
