//! Lines to what a relay needs.

use std::net::{IpAddr, SocketAddr};
use std::str;

use super::{Direction, LINES_MAX, MEDIA_MAX, Media, SIZE_MAX, Sdp, SdpError, SdpFault};

pub(super) fn sdp(text: &[u8]) -> Result<Sdp<'_>, SdpError> {
    let too_long = |line| Err(SdpError { line, fault: SdpFault::TooLong });
    if text.len() > SIZE_MAX {
        return too_long(1);
    }
    let lines: Vec<&[u8]> = text.split_inclusive(|octet| *octet == b'\n').collect();
    if lines.len() > LINES_MAX {
        return too_long(LINES_MAX);
    }
    let first = lines.first().map(|line| value_of(line));
    if first != Some(b"v=0") {
        return Err(SdpError { line: 1, fault: SdpFault::Version });
    }
    let mut reader = Reader::default();
    for (at, line) in lines.iter().enumerate() {
        reader.line(at, value_of(line)).map_err(|fault| SdpError { line: at + 1, fault })?;
    }
    Ok(Sdp { lines, media: reader.media })
}

/// A line without its end.
pub(super) fn value_of(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[derive(Default)]
struct Reader {
    connection: Option<IpAddr>,
    direction: Direction,
    media: Vec<Media>,
}

impl Reader {
    fn line(&mut self, at: usize, line: &[u8]) -> Result<(), SdpFault> {
        if line.is_empty() {
            return Ok(()); // a blank line at the end is common, and means nothing
        }
        let [kind, b'=', value @ ..] = line else { return Err(SdpFault::Line) };
        if !kind.is_ascii_alphabetic() {
            return Err(SdpFault::Line);
        }
        if let (b'm', true) = (kind, self.media.len() >= MEDIA_MAX) {
            return Err(SdpFault::TooLong);
        }
        if let Some(media) = self.media.last_mut().filter(|_| *kind != b'm') {
            media.lines.end = at + 1;
        }
        match (kind, value) {
            (b'm', value) => {
                let mut media = media(value)?;
                media.lines = at..at + 1;
                (media.connection, media.direction) = (self.connection, self.direction);
                self.media.push(media);
            }
            (b'c', value) => self.connection(connection(value)?),
            (b'a', value) => self.attribute(value)?,
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, ip: IpAddr) {
        match self.media.last_mut() {
            None => self.connection = Some(ip),
            // Of several, as layered multicast has them, the first.
            Some(media) if !media.own_connection => {
                (media.connection, media.own_connection) = (Some(ip), true);
            }
            Some(_) => {}
        }
    }

    fn attribute(&mut self, value: &[u8]) -> Result<(), SdpFault> {
        if let Some(direction) = direction(value) {
            match self.media.last_mut() {
                Some(media) => media.direction = direction,
                None => self.direction = direction,
            }
        }
        let Some(media) = self.media.last_mut() else { return Ok(()) };
        if let Some(value) = value.strip_prefix(b"rtpmap:") {
            media.clock_hz = rtpmap(value, media.first_format).unwrap_or(media.clock_hz);
        }
        if value == b"rtcp-mux" {
            media.rtcp_mux = true;
        }
        if let Some(value) = value.strip_prefix(b"rtcp:") {
            media.rtcp = rtcp(value, media.connection)?;
        }
        Ok(())
    }
}

/// The clock of `format name/clock`, where it is of that format.
fn rtpmap(value: &[u8], format: u8) -> Option<u32> {
    let (of, encoding) = str::from_utf8(value).ok()?.split_once(' ')?;
    let clock = encoding.split('/').nth(1)?;
    (number(of) == Some(format)).then(|| number(clock.trim())).flatten()
}

/// RFC 3551 tables 4 and 5.
fn static_clock_hz(format: u8) -> u32 {
    match format {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => 8_000,
        6 => 16_000,
        10 | 11 => 44_100,
        16 => 11_025,
        17 => 22_050,
        14 | 25 | 26 | 28 | 31..=34 => 90_000,
        _ => 0,
    }
}

fn direction(value: &[u8]) -> Option<Direction> {
    Some(match value {
        b"sendrecv" => Direction::SendRecv,
        b"sendonly" => Direction::SendOnly,
        b"recvonly" => Direction::RecvOnly,
        b"inactive" => Direction::Inactive,
        _ => return None,
    })
}

fn media(value: &[u8]) -> Result<Media, SdpFault> {
    let value = str::from_utf8(value).map_err(|_| SdpFault::Media)?;
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let (Some(kind), Some(port), Some(protocol)) = (words.next(), words.next(), words.next())
    else {
        return Err(SdpFault::Media);
    };
    let mut formats = words.peekable();
    if formats.peek().is_none() {
        return Err(SdpFault::Media);
    }
    let (port, count) = port.split_once('/').unwrap_or((port, "1"));
    let port = number(port).ok_or(SdpFault::Media)?;
    let count: u16 = number(count).ok_or(SdpFault::Media)?;
    let first_format = formats.peek().and_then(|first| number::<u8>(first));
    let payload_types = formats
        .filter_map(number::<u8>)
        .filter(|payload_type| *payload_type < 128)
        .fold(0, |all, payload_type| all | 1u128 << payload_type);
    let media = Media {
        kind: kind.to_owned(),
        port,
        protocol: protocol.to_owned(),
        connection: None,
        rtcp: None,
        rtcp_mux: false,
        direction: Direction::SendRecv,
        payload_types,
        clock_hz: first_format.map_or(0, static_clock_hz),
        first_format: first_format.unwrap_or(u8::MAX),
        lines: 0..0,
        own_connection: false,
    };
    if media.is_relayable() && count != 1 {
        return Err(SdpFault::SeveralPorts);
    }
    Ok(media)
}

/// Digits only; no sign.
fn number<T: str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn connection(value: &[u8]) -> Result<IpAddr, SdpFault> {
    let value = str::from_utf8(value).map_err(|_| SdpFault::Connection)?;
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let (Some("IN"), Some(family), Some(address)) = (words.next(), words.next(), words.next())
    else {
        return Err(SdpFault::Connection);
    };
    // A multicast address has TTL and count behind it.
    let address = address.split('/').next().unwrap_or_default();
    let ip: IpAddr = address.parse().map_err(|_| SdpFault::Connection)?;
    let named = match family {
        "IP4" => ip.is_ipv4(),
        "IP6" => ip.is_ipv6(),
        _ => false,
    };
    if named { Ok(ip) } else { Err(SdpFault::Connection) }
}

/// RFC 3605: a port, and an address where it is another one.
fn rtcp(value: &[u8], ip: Option<IpAddr>) -> Result<Option<SocketAddr>, SdpFault> {
    let value = str::from_utf8(value).map_err(|_| SdpFault::Rtcp)?.trim();
    let (port, address) = value.split_once(' ').unwrap_or((value, ""));
    let port: u16 = number(port).filter(|port| *port != 0).ok_or(SdpFault::Rtcp)?;
    let ip = if address.is_empty() { ip } else { Some(connection(address.as_bytes())?) };
    Ok(ip.map(|ip| SocketAddr::new(ip, port)))
}
