//! Flags of a media order, named as operators know them from the rtpengine modules of Kamailio and
//! OpenSIPS.

use std::fmt;
use std::net::IpAddr;

/// Longest text of flags, bytes.
const MOST_BYTES: usize = 1024;

/// Words that are already so, whether said or not.
const ALWAYS: [&str; 4] = ["trust-address", "symmetric", "strict-source", "ICE=remove"];

/// How a description is relayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MediaFlags {
    /// `SIP-source-address`: whoever wrote the description is where its SIP came from, whatever
    /// address it names.
    pub sip_source: bool,
    /// `replace-origin`: `o=` gets our address too.
    pub replace_origin: bool,
    /// `replace-session-connection`: the description's own `c=` gets our address too.
    pub replace_connection: bool,
    /// `media-handover`: a phone may move once, if it goes on with its RTP stream (R-M5).
    pub handover: bool,
    /// `ICE=keep`: its attributes stay.
    pub keep_ice: bool,
    /// `TOS=n`: what is sent has this DSCP.
    pub dscp: Option<u8>,
    /// `address-family=IP4`, `IP6`: of what the receiver is told; `true`: IP6.
    pub ipv6: Option<bool>,
    /// `media-address=IP`: what the receiver is told.
    pub media_address: Option<IpAddr>,
    /// `in-iface=`, or the first `direction=`: the configured address that faces the sender.
    pub inside: Option<Box<str>>,
    /// `out-iface=`, or the second `direction=`: the one that faces the receiver.
    pub outside: Option<Box<str>>,
}

/// A flag that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MediaFlagError(pub String);

impl MediaFlags {
    /// Reads words with spaces or commas between them.
    ///
    /// # Errors
    /// The first word that means nothing, by name.
    pub fn parse(text: &str) -> Result<MediaFlags, MediaFlagError> {
        if text.len() > MOST_BYTES {
            return Err(MediaFlagError(format!("flags of more than {MOST_BYTES} bytes")));
        }
        let mut flags = MediaFlags::default();
        let words = text.split([' ', ',', '\t']).filter(|word| !word.is_empty());
        for word in words {
            let known = ALWAYS.iter().any(|always| always.eq_ignore_ascii_case(word));
            if !known && flags.word(word).is_none() {
                let word: String = word.chars().take(60).collect();
                return Err(MediaFlagError(format!("`{word}` is no media flag")));
            }
        }
        Ok(flags)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match (name.to_ascii_lowercase().as_str(), value) {
            ("sip-source-address", "") => self.sip_source = true,
            ("replace-origin", "") => self.replace_origin = true,
            ("replace-session-connection", "") => self.replace_connection = true,
            ("media-handover", "") => self.handover = true,
            ("ice", "keep") => self.keep_ice = true,
            ("tos", value) => self.dscp = Some(value.parse::<u8>().ok()? >> 2),
            ("address-family", value) => {
                self.ipv6 = Some(match value.to_ascii_uppercase().as_str() {
                    "IP4" => false,
                    "IP6" => true,
                    _ => return None,
                });
            }
            ("media-address", value) => self.media_address = Some(value.parse().ok()?),
            ("in-iface", name) => self.inside = Some(interface(name)?),
            ("out-iface", name) => self.outside = Some(interface(name)?),
            ("direction", name) if self.inside.is_none() => self.inside = Some(interface(name)?),
            ("direction", name) if self.outside.is_none() => self.outside = Some(interface(name)?),
            _ => return None,
        }
        Some(())
    }
}

impl fmt::Display for MediaFlags {
    /// As they can be written.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        let said = [
            (self.sip_source, "SIP-source-address"),
            (self.replace_origin, "replace-origin"),
            (self.replace_connection, "replace-session-connection"),
            (self.handover, "media-handover"),
            (self.keep_ice, "ICE=keep"),
        ];
        words.extend(said.iter().filter(|(said, _)| *said).map(|(_, word)| (*word).to_owned()));
        words.extend(self.dscp.map(|dscp| format!("TOS={}", u16::from(dscp) << 2)));
        words.extend(self.ipv6.map(|v6| format!("address-family=IP{}", if v6 { 6 } else { 4 })));
        words.extend(self.media_address.map(|ip| format!("media-address={ip}")));
        words.extend(self.inside.as_ref().map(|name| format!("in-iface={name}")));
        words.extend(self.outside.as_ref().map(|name| format!("out-iface={name}")));
        out.write_str(&words.join(" "))
    }
}

/// A name as it can be configured.
fn interface(name: &str) -> Option<Box<str>> {
    let legal = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    ((1..=64).contains(&name.len()) && name.bytes().all(legal)).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_operators_write_them() {
        let text = "replace-origin replace-session-connection SIP-source-address ICE=remove";
        let flags = MediaFlags::parse(text).unwrap();
        assert!(flags.sip_source && flags.replace_origin && flags.replace_connection);
        let flags = MediaFlags::parse("TOS=184, address-family=IP6, media-handover").unwrap();
        assert_eq!((flags.dscp, flags.ipv6, flags.handover), (Some(46), Some(true), true));
        assert_eq!(MediaFlags::parse(""), Ok(MediaFlags::default()));
    }

    #[test]
    fn both_ways_to_name_the_interfaces_are_understood() {
        let kamailio = MediaFlags::parse("direction=inside direction=outside");
        assert_eq!(kamailio, MediaFlags::parse("in-iface=inside out-iface=outside"));
        assert_eq!(kamailio.unwrap().outside.as_deref(), Some("outside"));
    }

    #[test]
    fn flags_are_written_as_they_are_read() {
        let text = "SIP-source-address replace-origin replace-session-connection media-handover \
                    ICE=keep TOS=184 address-family=IP6 media-address=192.0.2.1 in-iface=a \
                    out-iface=b";
        assert_eq!(MediaFlags::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn what_means_nothing_is_named() {
        for wrong in
            ["transcode-PCMU", "TOS=700", "address-family=IP5", "media-address=x", "in-iface=a/b"]
        {
            let said = MediaFlags::parse(&format!("replace-origin {wrong}")).unwrap_err();
            assert_eq!(said.0, format!("`{wrong}` is no media flag"));
        }
        assert!(MediaFlags::parse("direction=a direction=b direction=c").is_err());
    }
}
