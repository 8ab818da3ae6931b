//! Session descriptions as phones write and read them (RFC 4566), sharing nothing with the router's.

use std::net::{IpAddr, SocketAddr};

/// One stream of audio at `at`.
pub(crate) fn description(at: SocketAddr) -> String {
    let (ip, port) = (at.ip(), at.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

/// Where a description with one stream of audio wants its RTP: the address of the stream, else that
/// of the session.
pub(crate) fn told(body: &str) -> Result<SocketAddr, String> {
    let complain = || format!("a description with one stream and one address is not this:\n{body}");
    let mut port = None;
    let (mut of_session, mut of_stream) = (None, None);
    for line in body.split("\r\n") {
        match line.split_once('=') {
            Some(("m", value)) => {
                let audio = value.strip_prefix("audio ").and_then(|rest| rest.split(' ').next());
                let one = port.replace(audio.and_then(|text| text.parse::<u16>().ok()));
                if one.is_some() {
                    return Err(complain());
                }
            }
            Some(("c", value)) => {
                let ip = value.strip_prefix("IN IP4 ").and_then(|text| text.parse().ok());
                let place = if port.is_none() { &mut of_session } else { &mut of_stream };
                *place = Some(ip.ok_or_else(complain)?);
            }
            _ => {}
        }
    }
    let ip: Option<IpAddr> = of_stream.or(of_session);
    ip.zip(port.flatten()).map(|(ip, port)| SocketAddr::new(ip, port)).ok_or_else(complain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_address_of_a_stream_counts_before_that_of_all() {
        let at = "192.0.2.7:4000".parse().unwrap();
        let text = description(at);
        assert_eq!(told(&text), Ok(at));
        let moved = format!("{text}c=IN IP4 192.0.2.8\r\n");
        assert_eq!(told(&moved), Ok("192.0.2.8:4000".parse().unwrap()));
        let twice = format!("{text}m=audio 1 RTP/AVP 0\r\n");
        for wrong in ["", "c=IN IP4 192.0.2.8\r\n", "m=audio 4 RTP/AVP 0\r\n", &twice] {
            assert!(told(wrong).is_err(), "{wrong}");
        }
    }
}
