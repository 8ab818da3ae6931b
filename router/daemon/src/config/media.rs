//! `[media]`, `[[media.address]]` and `[media.rtpengine]`: the media relay, here or on other machines.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use viaduct_engine::Listener;
use viaduct_media::call::Settings;
use viaduct_media::kernel::Steering;
use viaduct_media::ng::{self, ClientConfig, NodeConfig};
use viaduct_media::service::{Config, Interface};
use viaduct_media::session::{Learn, Rank};

use super::keys::YEAR_S;
use super::reader::Section;
use super::{size, steering};

/// Most addresses: each is searched for a message.
const MOST_ADDRESSES: usize = 64;

/// Most media nodes.
const MOST_NODES: usize = 64;

/// The media relay of this machine; there is one where an address is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaConfig {
    /// How calls are relayed.
    pub service: Config,
    /// Whether by the kernel module.
    pub kernel: KernelUse,
    /// Whether in front of the stack, where that can be had.
    pub xdp: bool,
    /// What the kernel module does besides, where it is used.
    pub steering: Steering,
}

/// Whether media go through the kernel module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelUse {
    /// Where it is there and lets us, whenever that is.
    Auto,
    /// Never.
    Off,
    /// The router does not start without it.
    Required,
}

impl MediaConfig {
    /// `198.51.100.1 30000-39999, 10.0.0.1 (told as 203.0.113.1) 40000-49999`
    pub fn summary(&self) -> String {
        let one = |interface: &Interface| {
            let told = interface.advertised.map(|ip| format!(" (told as {ip})"));
            let (first, last) = interface.ports.clone().into_inner();
            format!("{}{} {first}-{last}", interface.ip, told.unwrap_or_default())
        };
        let all: Vec<String> = self.service.interfaces.iter().map(one).collect();
        all.join(", ")
    }
}

/// `udp:192.0.2.10:2223, udp:192.0.2.11:2223 (weight 2)`
pub(super) fn nodes_in_words(nodes: &ng::Config) -> String {
    let one = |node: &NodeConfig| match node.weight {
        1 => format!("udp:{}", node.address),
        weight => format!("udp:{} (weight {weight})", node.address),
    };
    let all: Vec<String> = nodes.client.nodes.iter().map(one).collect();
    format!("rtpengine at {}", all.join(", "))
}

/// The relay of this machine, or the nodes that relay in its place.
pub(super) fn read(
    top: &mut Section<'_, '_>,
    listeners: &[Listener],
) -> (Option<MediaConfig>, Option<ng::Config>) {
    let mut section = top.section("media");
    let s = &mut section;
    let calls = size(s.number("calls", 1..=100_000, 10_000));
    let idle_s = small(s.number("idle_s", 5..=86_400, 60));
    let held_s = s.number("held_s", 0..=YEAR_S, 3_600);
    let unanswered_s = s.number("unanswered_s", 5..=86_400, 600);
    let lifetime_s = s.number("lifetime_s", 0..=YEAR_S, 43_200);
    let window_ms = small(s.number("learn_ms", 0..=60_000, 3_000));
    let settle_ms = small(s.number("settle_ms", 0..=60_000, 500));
    let ranks = [("address", Rank::Address), ("any", Rank::Any)];
    let lowest = s.choice("learn_from", &ranks, ("address", Rank::Address));
    let dscp = |number: u64| u8::try_from(number).ok().filter(|dscp| *dscp < 64);
    let dscp_audio = dscp(s.number("dscp_audio", 0..=64, 46));
    let dscp_video = dscp(s.number("dscp_video", 0..=64, 34));
    let rest_s = s.number("port_rest_s", 0..=3_600, 10);
    let loopback = s.flag("loopback", false);
    let uses =
        [("auto", KernelUse::Auto), ("off", KernelUse::Off), ("required", KernelUse::Required)];
    let kernel = s.choice("kernel", &uses, ("auto", KernelUse::Auto));
    let grace_s = small(s.number("grace_s", 1..=86_400, 60));
    let xdp = s.choice("xdp", &[("auto", true), ("off", false)], ("off", false));
    let steering = steering::read(s, listeners, xdp);
    let interfaces = interfaces(s);
    let client = rtpengine(s);
    let service = Config {
        interfaces,
        settings: Settings {
            learn: Learn { window_ms, settle_ms, lowest },
            idle_s,
            dscp_audio,
            dscp_video,
            loopback,
            handover: false,
        },
        calls,
        lifetime_s,
        unanswered_s,
        held_s,
        rest_ms: rest_s.saturating_mul(1_000),
        grace_s,
    };
    let (at, name) = (s.at(), s.name("address"));
    let sheet = s.sheet();
    section.close();
    let nodes = (!client.nodes.is_empty()).then_some(ng::Config {
        client,
        calls,
        lifetime_s,
        unanswered_s,
    });
    if service.interfaces.is_empty() {
        return (None, nodes);
    }
    if let Err(error) = service.check() {
        let allowed = "addresses with names and ports of their own";
        sheet.fault(at, &name, error.to_string(), allowed);
    }
    match nodes {
        // This machine's addresses rest.
        Some(nodes) => (None, Some(nodes)),
        None => (Some(MediaConfig { service, kernel, xdp, steering }), None),
    }
}

fn rtpengine(media: &mut Section<'_, '_>) -> ClientConfig {
    let mut section = media.section("rtpengine");
    let s = &mut section;
    let timeout_ms = s.number("timeout_ms", 20..=5_000, 250);
    let retries = small(s.number("retries", 1..=10, 3));
    let down_s = s.number("down_s", 1..=3_600, 30);
    let mut nodes: Vec<NodeConfig> = Vec::new();
    for mut node in s.sections("node", MOST_NODES) {
        if let Some(found) = self::node(&mut node) {
            if nodes.iter().any(|known| known.address == found.address) {
                let (at, key) = (node.place("address"), node.name("address"));
                let problem = format!("names {} twice", found.address);
                node.sheet().fault(at, &key, problem, "each node once");
            }
            nodes.push(found);
        }
        node.close();
    }
    section.close();
    ClientConfig { nodes, timeout_ms, retries, down_ms: down_s.saturating_mul(1_000) }
}

fn node(s: &mut Section<'_, '_>) -> Option<NodeConfig> {
    const ADDRESS: &str = "an IP address with the port rtpengine listens at for ng over UDP, such \
                           as \"udp:192.0.2.10:2223\"";
    let address = s.text_if("address", "", ADDRESS, |text| node_address(text).is_some());
    let weight = s.number("weight", 1..=1_000, 1);
    if address.is_none() && s.place("address") == s.at() {
        let name = s.name("address");
        s.sheet().fault(s.at(), &name, "is missing".to_owned(), ADDRESS);
    }
    let address = node_address(&address?.value)?;
    Some(NodeConfig { address, weight: u16::try_from(weight).unwrap_or(1) })
}

/// Whom commands can be sent to.
fn node_address(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.strip_prefix("udp:").unwrap_or(text).parse().ok()?;
    let ip = address.ip();
    (address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()).then_some(address)
}

fn interfaces(media: &mut Section<'_, '_>) -> Vec<Interface> {
    let mut interfaces = Vec::new();
    for mut address in media.sections("address", MOST_ADDRESSES) {
        interfaces.extend(interface(&mut address));
        address.close();
    }
    interfaces
}

fn interface(s: &mut Section<'_, '_>) -> Option<Interface> {
    const NAME: &str = "a name of 1 to 64 of the characters a-z, A-Z, 0-9, - and _";
    const ADDRESS: &str = "an IP address of this machine, such as \"198.51.100.1\"";
    const ADVERTISED: &str = "an IP address, such as \"203.0.113.1\"";
    const PORTS: &str = "a range from 1024 on, such as \"30000-39999\"";
    let is_name = |text: &str| {
        let legal = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (1..=64).contains(&text.len()) && text.bytes().all(legal)
    };
    let name = s.text_if("name", "\"default\"", NAME, is_name);
    let ip = s.text_if("address", "", ADDRESS, |text| ip(text).is_some());
    let advertised = s.text_if("advertised", "", ADVERTISED, |text| ip_of(text).is_some());
    let range = s.text_if("ports", "\"30000-39999\"", PORTS, |text| range(text).is_some());
    if ip.is_none() && s.place("address") == s.at() {
        let name = s.name("address");
        s.sheet().fault(s.at(), &name, "is missing".to_owned(), ADDRESS);
    }
    Some(Interface {
        name: name.map_or("default".into(), |text| text.value.into()),
        ip: ip.and_then(|text| ip_of(&text.value))?,
        advertised: advertised.and_then(|text| ip_of(&text.value)),
        ports: range.and_then(|text| self::range(&text.value)).unwrap_or(30_000..=39_999),
    })
}

/// An address sockets can be bound to; a wildcard cannot be told to peers.
fn ip(text: &str) -> Option<IpAddr> {
    ip_of(text).filter(|ip| !ip.is_multicast())
}

fn ip_of(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|ip: &IpAddr| !ip.is_unspecified())
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first >= 1024 && first < last).then_some(first..=last)
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::KernelUse;

    const BASE: &str = "[[listen]]\naddress = \"127.0.0.1:5060\"\n[policy]\nfile = \"p\"\n";

    fn parse(text: &str) -> Result<crate::config::Config, String> {
        crate::config::Config::parse(&format!("{BASE}{text}"), Path::new("v.toml"), &Vec::new)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn without_an_address_there_is_no_relay() {
        let config = parse("[media]\nidle_s = 30\n[media.rtpengine]\nretries = 1\n").unwrap();
        assert!(config.media.is_none() && config.rtpengine.is_none());
    }

    #[test]
    fn nodes_are_read_with_their_weights() {
        let text = "[media]\ncalls = 5\n[media.rtpengine]\ntimeout_ms = 100\ndown_s = 2\n\
                    [[media.rtpengine.node]]\naddress = \"udp:192.0.2.10:2223\"\n\
                    [[media.rtpengine.node]]\naddress = \"[2001:db8::1]:2223\"\nweight = 3\n";
        let config = parse(text).unwrap();
        let nodes = config.rtpengine.as_ref().unwrap();
        let [first, second] = &nodes.client.nodes[..] else { panic!() };
        assert_eq!((first.address, first.weight), ("192.0.2.10:2223".parse().unwrap(), 1));
        assert_eq!((second.address, second.weight), ("[2001:db8::1]:2223".parse().unwrap(), 3));
        assert_eq!((nodes.calls, nodes.client.timeout_ms, nodes.client.retries), (5, 100, 3));
        assert_eq!((nodes.client.down_ms, config.media.is_none()), (2_000, true));
        assert!(config.summary().contains("udp:[2001:db8::1]:2223 (weight 3)"));
        let both = format!("{text}[[media.address]]\naddress = \"10.0.0.1\"\n");
        assert_eq!(parse(&both).unwrap().rtpengine, config.rtpengine);
        assert_eq!(parse(&both).unwrap().media, None, "this machine's addresses rest");
    }

    #[test]
    fn a_bad_node_is_told_with_its_line_and_key() {
        const NODE: &str = "[[media.rtpengine.node]]\naddress = \"192.0.2.10:2223\"\n";
        for (text, said) in [
            (
                "[[media.rtpengine.node]]\nweight = 1\n",
                "v.toml:5: `media.rtpengine.node[1].address",
            ),
            (&NODE.replace(":2223", ""), "v.toml:6: `media.rtpengine.node[1].address"),
            (&NODE.replace("192.0.2.10", "0.0.0.0"), "an IP address with the port"),
            (&NODE.replace("192.0.2.10", "tcp:192.0.2.10"), "an IP address with the port"),
            (&NODE.replace("192.0.2.10", "node.example.com"), "an IP address with the port"),
            (&format!("{NODE}weight = 0\n"), "v.toml:7: `media.rtpengine.node[1].weight"),
            (&format!("{NODE}{NODE}"), "v.toml:8: `media.rtpengine.node[2].address` names"),
            ("[media.rtpengine]\ntimeout_ms = 1\n", "20 to 5000"),
            ("[media.rtpengine]\nnode = 1\n", "tables, [[media.rtpengine.node]]"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text} gave {error}");
        }
    }

    #[test]
    fn addresses_for_both_directions_are_read() {
        let text = "[media]\nidle_s = 30\ndscp_audio = 64\nxdp = \"auto\"\n\
                    [[media.address]]\nname = \"in\"\naddress = \"10.0.0.1\"\n\
                    [[media.address]]\nname = \"out\"\naddress = \"10.0.1.1\"\n\
                    advertised = \"203.0.113.1\"\nports = \"40000-40999\"\n";
        let media = parse(text).unwrap().media.unwrap();
        let [inside, outside] = &media.service.interfaces[..] else { panic!() };
        assert_eq!((&*inside.name, inside.ports.clone()), ("in", 30_000..=39_999));
        assert_eq!(outside.advertised, "203.0.113.1".parse().ok());
        assert_eq!(outside.ports, 40_000..=40_999);
        let settings = media.service.settings;
        assert_eq!((settings.idle_s, settings.dscp_audio, media.xdp), (30, None, true));
        assert_eq!((media.kernel, media.service.grace_s), (KernelUse::Auto, 60));
    }

    #[test]
    fn what_is_no_good_is_told_with_its_line() {
        for (text, said) in [
            ("[[media.address]]\nname = \"x\"\n", "v.toml:5:"),
            ("[[media.address]]\naddress = \"0.0.0.0\"\n", "an IP address of this machine"),
            ("[[media.address]]\naddress = \"10.0.0.1\"\nports = \"40000\"\n", "a range from 1024"),
            ("[[media.address]]\naddress = \"10.0.0.1\"\nport = 1\n", "media.address[1].port"),
            (
                "[[media.address]]\naddress = \"10.0.0.1\"\n[[media.address]]\nname = \"b\"\n\
                 address = \"10.0.0.1\"\nports = \"39000-41000\"\n",
                "share ports",
            ),
            ("[media]\ncalls = 0\n", "1 to 100000"),
            ("[media]\nkernel = \"yes\"\n", "\"required\""),
            ("[media]\ngrace_s = 0\n", "1 to 86400"),
            ("[media]\nxdp = \"on\"\n", "\"auto\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text} gave {error}");
        }
    }
}
