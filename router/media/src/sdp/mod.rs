//! Session descriptions (RFC 8866) by a line editor: it reads the lines a relay has to change, and
//! keeps every other octet as it is.

pub mod body;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use write::{At, Ice, Rewrite};

/// Largest description, in octets.
const SIZE_MAX: usize = 65_536;
/// Most lines.
const LINES_MAX: usize = 2_048;
/// Most media.
const MEDIA_MAX: usize = 32;

/// What is wrong, and in which line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SDP line {line}: {fault}")]
pub struct SdpError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: SdpFault,
}

/// What can be wrong with a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpFault {
    /// More than 65,536 octets, 2,048 lines or 32 media.
    #[error("too long")]
    TooLong,
    /// Not a letter, `=` and a value.
    #[error("not of the form letter=value")]
    Line,
    /// It does not begin with `v=0`.
    #[error("a description begins with v=0")]
    Version,
    /// `m=` without kind, port, protocol and format.
    #[error("m= wants a kind, a port, a protocol and a format")]
    Media,
    /// `c=` that is not `IN IP4` or `IN IP6` with an address.
    #[error("c= wants IN, IP4 or IP6, and an address")]
    Connection,
    /// `a=rtcp` without a port.
    #[error("a=rtcp wants a port")]
    Rtcp,
    /// A stream that is to be relayed has no `c=`.
    #[error("no c= says where this stream is")]
    NoConnection,
    /// `m=` with several ports, which no relay of ours serves.
    #[error("a stream on several ports cannot be relayed")]
    SeveralPorts,
}

/// The direction a stream flows, from the view of who wrote the description (RFC 8866 6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Both ways; what no attribute means.
    #[default]
    SendRecv,
    /// Only from the writer.
    SendOnly,
    /// Only to the writer.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// One `m=` with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`...
    pub kind: String,
    /// 0: refused or switched off.
    pub port: u16,
    /// As in `RTP/AVP`.
    pub protocol: String,
    /// Where it is, by its own `c=` or the description's. Unspecified is an old way to say hold.
    pub connection: Option<IpAddr>,
    /// By `a=rtcp`, else the port after RTP's.
    pub rtcp: Option<SocketAddr>,
    /// `a=rtcp-mux`.
    pub rtcp_mux: bool,
    /// Its own, or the description's.
    pub direction: Direction,
    /// Bit n: format n is in the list, or 0 where the formats are no payload types.
    pub payload_types: u128,
    /// RTP clock of the first format, by `a=rtpmap` or the static table (RFC 3551 6); 0: not known.
    pub clock_hz: u32,
    first_format: u8,
    lines: std::ops::Range<usize>,
    own_connection: bool,
}

impl Media {
    /// Whether a relay can carry it: RTP over UDP, and not switched off.
    #[must_use]
    pub fn is_relayable(&self) -> bool {
        self.port != 0 && self.is_rtp()
    }

    /// RTP over UDP by its protocol (RFC 8866 5.14, RFC 5764 section 9).
    #[must_use]
    pub fn is_rtp(&self) -> bool {
        let profile = self.protocol.strip_prefix("UDP/TLS/").unwrap_or(&self.protocol);
        ["RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF"].contains(&profile)
    }

    /// Whether its packets are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.is_rtp() && self.protocol.contains("SAVP")
    }

    /// Where its RTP is to be sent; `None` where that is nowhere, as on hold by address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        let ip = self.connection.filter(|ip| !ip.is_unspecified())?;
        (self.port != 0).then(|| SocketAddr::new(ip, self.port))
    }

    /// Where its RTCP is to be sent, if on a port of its own.
    #[must_use]
    pub fn rtcp_peer(&self) -> Option<SocketAddr> {
        let rtp = self.peer()?;
        self.rtcp.or_else(|| Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)))
    }
}

/// A description that was read.
#[derive(Clone, Debug)]
pub struct Sdp<'a> {
    /// Its lines with their ends, in order.
    lines: Vec<&'a [u8]>,
    /// Its media, in order.
    pub media: Vec<Media>,
}

impl<'a> Sdp<'a> {
    /// Reads what a relay needs.
    ///
    /// # Errors
    /// The first line that cannot be understood, among those that must be.
    pub fn read(text: &'a [u8]) -> Result<Self, SdpError> {
        read::sdp(text)
    }
}
