//! A description with other addresses; all else octet by octet as it came.

use std::net::{IpAddr, SocketAddr};

use super::read::value_of;
use super::{Media, Sdp, SdpError, SdpFault};

/// Where a stream is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// For RTP.
    pub rtp: SocketAddr,
    /// For RTCP; the same where they share a port.
    pub rtcp: SocketAddr,
}

/// What is done with ICE (RFC 8839).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ice {
    /// Its attributes are taken out, so that both phones use the relay.
    #[default]
    Remove,
    /// They stay; the phones may find a way past the relay.
    Keep,
}

/// How a description is changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewrite<'a> {
    /// For each medium where it is now; `None` and what is missing stays where it is.
    pub at: &'a [Option<At>],
    /// What is done with ICE.
    pub ice: Ice,
    /// The address in `o=`, where it is to be another one.
    pub origin: Option<IpAddr>,
    /// The address in the `c=` of the whole description, where it is to be another one even though
    /// streams that do not move use it.
    pub connection: Option<IpAddr>,
}

const ICE_ATTRIBUTES: [&[u8]; 7] = [
    b"candidate:",
    b"remote-candidates:",
    b"ice-ufrag:",
    b"ice-pwd:",
    b"ice-options:",
    b"ice-lite",
    b"end-of-candidates",
];

impl Sdp<'_> {
    /// The description with its streams where `rewrite` says.
    ///
    /// # Errors
    /// A stream that is to move has no `c=`.
    pub fn rewrite(&self, rewrite: &Rewrite<'_>) -> Result<Vec<u8>, SdpError> {
        let moves = self.media.iter().enumerate().map(|(position, media)| {
            let at = rewrite.at.get(position).copied().flatten();
            (media, at.filter(|_| media.is_relayable()))
        });
        let moves: Vec<(&Media, Option<At>)> = moves.collect();
        for (media, at) in &moves {
            if at.is_some() && media.connection.is_none() {
                let line = media.lines.start + 1;
                return Err(SdpError { line, fault: SdpFault::NoConnection });
            }
        }
        let connection = rewrite.connection.or_else(|| shared_connection(&moves));
        let mut writer = Writer { out: Vec::new(), end: self.line_end(), ice: rewrite.ice };
        let session_end = self.media.first().map_or(self.lines.len(), |media| media.lines.start);
        for line in self.lines.get(..session_end).unwrap_or_default() {
            match value_of(line).split_at_checked(2) {
                Some((b"o=", origin)) => writer.origin(origin, rewrite.origin, line),
                Some((b"c=", value)) => writer.connection(value, connection, line),
                _ => writer.keep(line),
            }
        }
        let mut written = session_end;
        for (media, at) in moves {
            // Blank lines between media, which have no meaning.
            let between = self.lines.get(written..media.lines.start).unwrap_or_default();
            between.iter().for_each(|line| writer.keep(line));
            written = media.lines.end;
            let lines = self.lines.get(media.lines.clone()).unwrap_or_default();
            match at {
                Some(at) => writer.moved(media, at, lines),
                None => lines.iter().for_each(|line| writer.keep(line)),
            }
        }
        let behind = self.lines.get(written..).unwrap_or_default();
        behind.iter().for_each(|line| writer.keep(line));
        Ok(writer.out)
    }

    /// New lines end as the first line does.
    fn line_end(&self) -> &'static [u8] {
        let bare = self.lines.first().is_some_and(|line| !line.ends_with(b"\r\n"));
        if bare { b"\n" } else { b"\r\n" }
    }
}

/// Where the `c=` of the whole description may point too: some phones look at nothing else. `None`
/// where a stream that stays in its place uses it.
fn shared_connection(moves: &[(&Media, Option<At>)]) -> Option<IpAddr> {
    let stays = |(media, at): &(&Media, Option<At>)| {
        at.is_none() && media.port != 0 && !media.own_connection
    };
    if moves.iter().any(stays) {
        return None;
    }
    moves.iter().find_map(|(_, at)| at.map(|at| at.rtp.ip()))
}

struct Writer {
    out: Vec<u8>,
    end: &'static [u8],
    ice: Ice,
}

impl Writer {
    fn keep(&mut self, line: &[u8]) {
        let is_ice = line
            .strip_prefix(b"a=")
            .is_some_and(|attribute| ICE_ATTRIBUTES.iter().any(|ice| attribute.starts_with(ice)));
        if self.ice == Ice::Keep || !is_ice {
            self.out.extend_from_slice(line);
        }
    }

    fn line(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(self.end);
    }

    /// `o=user id version IN IP4 address`: the last word is replaced, and its family.
    fn origin(&mut self, value: &[u8], ip: Option<IpAddr>, line: &[u8]) {
        let Some(ip) = ip else { return self.keep(line) };
        let text = String::from_utf8_lossy(value);
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            [user, id, version, net, _, _] => {
                self.line(&format!("o={user} {id} {version} {net} {}", address(ip)));
            }
            _ => self.keep(line),
        }
    }

    /// The `c=` of the whole description. On hold by address (RFC 2543) it must stay on hold.
    fn connection(&mut self, value: &[u8], ip: Option<IpAddr>, line: &[u8]) {
        let Some(ip) = ip else { return self.keep(line) };
        let held = value.ends_with(b" 0.0.0.0") || value.ends_with(b" ::");
        let ip = if held { unspecified(ip) } else { ip };
        self.line(&format!("c=IN {}", address(ip)));
    }

    /// The lines of a medium that moves. It has a `c=` of its own from now on.
    fn moved(&mut self, media: &Media, at: At, lines: &[&[u8]]) {
        // On hold by address (RFC 2543) it must stay on hold.
        let held = media.connection.is_some_and(|ip| ip.is_unspecified());
        let ip = if held { unspecified(at.rtp.ip()) } else { at.rtp.ip() };
        let connection = format!("c=IN {}", address(ip));
        let mut connected = false;
        for (position, line) in lines.iter().enumerate() {
            let value = value_of(line);
            // In its place by the grammar: after m= and i=, before all else (RFC 8866 section 9).
            if !connected && position > 0 && !value.starts_with(b"i=") {
                self.line(&connection);
                connected = true;
            }
            if position == 0 {
                self.media_line(value, at.rtp.port());
            } else if !value.starts_with(b"c=") && !value.starts_with(b"a=rtcp:") {
                self.keep(line);
            }
        }
        if !connected {
            self.line(&connection);
        }
        self.rtcp(media, at);
    }

    /// `m=` with another port.
    fn media_line(&mut self, value: &[u8], port: u16) {
        let text = String::from_utf8_lossy(value);
        let mut words = text.splitn(3, ' ');
        let (kind, _, rest) = (words.next(), words.next(), words.next());
        self.line(&format!("{} {port} {}", kind.unwrap_or("m="), rest.unwrap_or_default()));
    }

    /// `a=rtcp` where the port is not the one everybody expects, or was named before.
    fn rtcp(&mut self, media: &Media, at: At) {
        let expected =
            at.rtcp.ip() == at.rtp.ip() && at.rtp.port().checked_add(1) == Some(at.rtcp.port());
        if (expected && media.rtcp.is_none()) || (at.rtcp == at.rtp && media.rtcp_mux) {
            return;
        }
        // Attributes come last, so the end of the medium is a place for one; a line that was cut
        // off at the end of the description needs its end first.
        if !self.out.ends_with(b"\n") {
            self.out.extend_from_slice(self.end);
        }
        self.line(&format!("a=rtcp:{} IN {}", at.rtcp.port(), address(at.rtcp.ip())));
    }
}

fn address(ip: IpAddr) -> String {
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!("{family} {ip}")
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    }
}
