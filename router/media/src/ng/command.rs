//! Commands of the ng protocol, made of orders and messages.

use std::net::IpAddr;

use viaduct_engine::media::{MediaFlags, MediaMessage};

use super::bencode::{Dict, Value};
use crate::call::Side;

/// An offer or an answer.
pub(super) struct Description<'a> {
    /// Who wrote the offer: of an answer, the other one.
    pub(super) offerer: &'a [u8],
    /// The tag of the other side; empty: not known yet.
    pub(super) other: &'a [u8],
    /// It is the answer.
    pub(super) is_answer: bool,
    /// It is the first of its call, and this side wrote it.
    pub(super) first: Option<Side>,
    pub(super) message: &'a MediaMessage<'a>,
    pub(super) sdp: &'a [u8],
    pub(super) flags: &'a MediaFlags,
    /// Where the branches of a request have media of their own.
    pub(super) branch: Option<u32>,
}

impl Description<'_> {
    pub(super) fn text(&self) -> Vec<u8> {
        let mut dict = Dict::new();
        let mut set = |key: &str, value: Value| drop(dict.insert(key.into(), value));
        set("command", if self.is_answer { "answer".into() } else { "offer".into() });
        set("call-id", self.message.tags.call_id.into());
        set("from-tag", self.offerer.into());
        if !self.other.is_empty() {
            set("to-tag", self.other.into());
        }
        set("sdp", self.sdp.into());
        set("received-from", received_from(self.message.source));
        set("ICE", if self.flags.keep_ice { "default".into() } else { "remove".into() });
        set("flags", list(&self.words()));
        let replaced = [
            (self.flags.replace_origin, "origin"),
            (self.flags.replace_connection, "session-connection"),
        ];
        let replaced: Vec<&str> =
            replaced.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
        if !replaced.is_empty() {
            set("replace", list(&replaced));
        }
        if let Some(branch) = self.branch {
            set("via-branch", branch_name(branch).as_str().into());
        }
        if let Some(dscp) = self.flags.dscp {
            set("TOS", Value::Integer(i64::from(dscp) << 2));
        }
        if let Some(ipv6) = self.flags.ipv6 {
            set("address-family", if ipv6 { "IP6".into() } else { "IP4".into() });
        }
        if let Some(address) = self.flags.media_address {
            set("media-address", address.to_string().as_str().into());
        }
        if let Some((side, (inside, outside))) = self.first.zip(both(self.flags)) {
            // They were given for the way from A to B.
            let way = if side == Side::A { [inside, outside] } else { [outside, inside] };
            set("direction", list(&way));
        }
        Value::Dict(dict).octets()
    }

    fn words(&self) -> Vec<&'static str> {
        let flags = self.flags;
        let source = if flags.sip_source { "SIP-source-address" } else { "trust-address" };
        // Learning is R-M5's: from the signalled address alone, once.
        let moves = if flags.handover { "media-handover" } else { "strict-source" };
        // A description that passes twice is left alone the second time. `symmetric` is always so.
        vec![source, moves, "loop-protect"]
    }
}

/// The end of a call, or of one branch.
pub(super) fn delete(call_id: &[u8], caller: &[u8], branch: Option<u32>) -> Vec<u8> {
    let mut dict = about("delete", call_id);
    dict.insert("from-tag".into(), caller.into());
    // At once: what it tells of the call is final.
    dict.insert("delete-delay".into(), Value::Integer(0));
    if let Some(branch) = branch {
        dict.insert("via-branch".into(), branch_name(branch).as_str().into());
    }
    Value::Dict(dict).octets()
}

/// How a call stands.
pub(super) fn query(call_id: &[u8]) -> Vec<u8> {
    Value::Dict(about("query", call_id)).octets()
}

/// Both interfaces, or none.
pub(super) fn both(flags: &MediaFlags) -> Option<(&str, &str)> {
    flags.inside.as_deref().zip(flags.outside.as_deref())
}

fn about(command: &str, call_id: &[u8]) -> Dict {
    Dict::from([("command".into(), command.into()), ("call-id".into(), call_id.into())])
}

fn branch_name(branch: u32) -> String {
    format!("branch-{branch}")
}

fn received_from(source: IpAddr) -> Value {
    let source = source.to_canonical();
    list(&[if source.is_ipv4() { "IP4" } else { "IP6" }, &source.to_string()])
}

fn list(words: &[&str]) -> Value {
    Value::List(words.iter().map(|word| Value::from(*word)).collect())
}

#[cfg(test)]
mod tests {
    use viaduct_engine::media::Tags;
    use viaduct_message::Method;

    use super::*;

    fn text(flags: &str, change: impl FnOnce(&mut Description<'_>)) -> String {
        let tags = Tags { call_id: b"c", from: b"a", to: b"" };
        let message = MediaMessage {
            tags,
            method: Method::Invite,
            status: 0,
            branch: None,
            source: "192.0.2.1".parse().unwrap(),
            local: "192.0.2.2".parse().unwrap(),
            content_type: b"application/sdp",
            body: b"v=0",
        };
        let flags = MediaFlags::parse(flags).unwrap();
        let mut description = Description {
            offerer: b"a",
            other: b"",
            is_answer: false,
            first: Some(Side::A),
            message: &message,
            sdp: b"v=0",
            flags: &flags,
            branch: None,
        };
        change(&mut description);
        String::from_utf8(description.text()).unwrap()
    }

    #[test]
    fn an_offer_says_who_and_whence_and_leaves_learning_strict() {
        assert_eq!(
            text("", |_| ()),
            "d3:ICE6:remove7:call-id1:c7:command5:offer5:flagsl13:trust-address\
             13:strict-source12:loop-protecte8:from-tag1:a\
             13:received-froml3:IP49:192.0.2.1e3:sdp3:v=0e"
        );
    }

    #[test]
    fn flags_become_what_the_node_calls_them() {
        let flags = "SIP-source-address replace-origin replace-session-connection \
                     media-handover ICE=keep TOS=184 address-family=IP6 \
                     media-address=2001:db8::1 direction=in direction=out";
        let said = |first| {
            let text = text(flags, |description| description.first = first);
            Value::read(text.as_bytes()).unwrap()
        };
        let value = said(Some(Side::A));
        let words = |key: &str| -> Vec<String> {
            let words = value.get(key).unwrap().list().iter().map(Value::bytes);
            words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        };
        let flags = ["SIP-source-address", "media-handover", "loop-protect"];
        assert_eq!(words("flags"), flags);
        assert_eq!(words("replace"), ["origin", "session-connection"]);
        assert_eq!(words("direction"), ["in", "out"]);
        assert_eq!(value.get("TOS").unwrap().integer(), Some(184));
        assert_eq!(value.get("ICE").unwrap().bytes(), b"default");
        assert_eq!(value.get("address-family").unwrap().bytes(), b"IP6");
        assert_eq!(value.get("media-address").unwrap().bytes(), b"2001:db8::1");
        // Where the one who was called offers first, the way is the other one.
        let value = said(Some(Side::B));
        assert_eq!(value.get("direction").unwrap().list(), ["out".into(), "in".into()]);
        assert_eq!(said(None).get("direction"), None);
    }

    #[test]
    fn an_answer_names_both_and_its_branch() {
        let text = text("", |description| {
            description.is_answer = true;
            description.other = b"b";
            description.branch = Some(3);
        });
        let value = Value::read(text.as_bytes()).unwrap();
        for (key, wanted) in
            [("command", "answer"), ("from-tag", "a"), ("to-tag", "b"), ("via-branch", "branch-3")]
        {
            assert_eq!(value.get(key).unwrap().bytes(), wanted.as_bytes(), "{key}");
        }
    }

    #[test]
    fn the_end_is_at_once() {
        let text = delete(b"c", b"a", Some(1));
        assert_eq!(
            text,
            b"d7:call-id1:c7:command6:delete12:delete-delayi0e8:from-tag1:a\
              10:via-branch8:branch-1e"
        );
        assert_eq!(query(b"c"), b"d7:call-id1:c7:command5:querye");
    }
}
