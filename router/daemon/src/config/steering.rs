//! `[media.steering]`: what the kernel module does with packets on their way in.

use std::net::SocketAddr;

use viaduct_engine::{Listener, Transport};
use viaduct_media::kernel::{Cpus, RULES_MAX, Rule, Steering, Traffic};

use super::reader::Section;

/// Devices the module has room for.
const MOST_DEVICES: usize = 64;
/// The number that stands for the kernel's choice.
const ANY_QUEUE: u64 = 65_535;

/// `xdp`: `xdp` of the section above, without whose program nothing is in front of the stack.
pub(super) fn read(media: &mut Section<'_, '_>, listeners: &[Listener], xdp: bool) -> Steering {
    let mut section = media.section("steering");
    let s = &mut section;
    let steering = steering(s, listeners);
    if steering.before_stack && !xdp {
        let (at, name) = (s.place("before_stack"), s.name("before_stack"));
        let problem = "is true without the program that is in front of the stack".to_owned();
        s.sheet().fault(at, &name, problem, "with `xdp = \"auto\"` in [media]");
    }
    section.close();
    steering
}

fn steering(s: &mut Section<'_, '_>, listeners: &[Listener]) -> Steering {
    const DEVICES: &str = "names of network interfaces, each 1 to 15 bytes";
    let ingress: Vec<Box<str>> = s
        .texts("ingress", MOST_DEVICES, "[]", DEVICES)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| {
            let is_name = (1..=15).contains(&name.value.len()) && !name.value.contains(['/', ' ']);
            if !is_name {
                s.sheet().fault(name.at, &name.key, format!("is {:?}", name.value), DEVICES);
            }
            is_name.then(|| name.value.into())
        })
        .collect();
    let sip_cpus = cpus(s, "sip_cpus");
    let rtp = Rule {
        traffic: Traffic::Rtp,
        cpus: cpus(s, "rtp_cpus"),
        priority: number(s, "rtp_priority", u64::from(u32::MAX), 0),
        queue: number(s, "rtp_queue", ANY_QUEUE, ANY_QUEUE),
    };
    let mut rules = sip_cpus.map_or_else(Vec::new, |cpus| sip(&cpus, listeners));
    // It is asked last: a session has no leg at a listener's port.
    if rtp.cpus.is_some() || rtp.priority.is_some() || rtp.queue.is_some() {
        rules.push(rtp);
    }
    if rules.len() > RULES_MAX {
        let problem = format!("needs {} rules for the listeners' addresses and ports", rules.len());
        let allowed = format!("at most {RULES_MAX} rules");
        s.sheet().fault(s.place("sip_cpus"), &s.name("sip_cpus"), problem, &allowed);
    }
    let before_stack = s.flag("before_stack", false);
    let steering = Steering { ingress, rules, before_stack };
    if before_stack && steering.cpus().is_empty() {
        let (at, name) = (s.place("before_stack"), s.name("before_stack"));
        let problem = "is true where nothing is steered to a CPU".to_owned();
        s.sheet().fault(at, &name, problem, "with `sip_cpus` or `rtp_cpus`");
    }
    steering
}

/// One rule for each address and port.
fn sip(cpus: &Cpus, listeners: &[Listener]) -> Vec<Rule> {
    let mut seen: Vec<SocketAddr> = Vec::new();
    let mut rules = Vec::new();
    for listener in listeners {
        if seen.contains(&listener.addr) {
            continue;
        }
        seen.push(listener.addr);
        let over = |transport| {
            let mut same = listeners.iter().filter(|other| other.addr == listener.addr);
            same.any(|other| other.transport == transport)
        };
        let (udp, tcp) = (over(Transport::Udp), over(Transport::Tcp));
        let (address, port) = (Some(listener.addr.ip()), listener.addr.port());
        let traffic = Traffic::Sip { udp, tcp, address, ports: port..=port };
        rules.push(Rule { traffic, cpus: Some(cpus.clone()), priority: None, queue: None });
    }
    rules
}

fn cpus(s: &mut Section<'_, '_>, key: &'static str) -> Option<Cpus> {
    const CPUS: &str = "CPUs from 0 to 1023, such as \"0-3,6\"; \"\": where packets come in";
    let fits = |text: &str| text.is_empty() || text.parse::<Cpus>().is_ok();
    s.text_if(key, "\"\"", CPUS, fits)?.value.parse().ok()
}

/// `none` stands for no wish.
fn number<T: TryFrom<u64>>(
    s: &mut Section<'_, '_>,
    key: &'static str,
    most: u64,
    none: u64,
) -> Option<T> {
    let number = s.number(key, 0..=most, none);
    T::try_from(number).ok().filter(|_| number != none)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use viaduct_media::kernel::{Steering, Traffic};

    const BASE: &str = "[[listen]]\naddress = \"127.0.0.1:5060\"\ntransports = [\"udp\", \"tcp\"]\n\
                        [[listen]]\naddress = \"127.0.0.1:5070\"\ntransports = [\"tcp\"]\n\
                        [policy]\nfile = \"p\"\n[[media.address]]\naddress = \"127.0.0.1\"\n";

    fn parse(text: &str) -> Result<Steering, String> {
        let text = format!("{BASE}[media.steering]\n{text}");
        crate::config::Config::parse(&text, Path::new("v.toml"), &Vec::new)
            .map(|config| config.media.unwrap().steering)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn without_wishes_nothing_is_steered() {
        assert_eq!(parse("").unwrap(), Steering::default());
        assert_eq!(parse("sip_cpus = \"\"\nrtp_queue = 65535\n").unwrap(), Steering::default());
    }

    #[test]
    fn each_listening_address_has_one_rule_and_rtp_the_last() {
        let text = "ingress = [\"eth0\"]\nsip_cpus = \"2-3\"\nrtp_cpus = \"0\"\nrtp_queue = 0\n";
        let steering = parse(text).unwrap();
        assert_eq!(steering.ingress, ["eth0".into()]);
        let [both, tcp, rtp] = &steering.rules[..] else { panic!("{steering:?}") };
        let sip = |port, udp| Traffic::Sip {
            udp,
            tcp: true,
            address: "127.0.0.1".parse().ok(),
            ports: port..=port,
        };
        assert_eq!((&both.traffic, &tcp.traffic), (&sip(5060, true), &sip(5070, false)));
        assert_eq!(both.cpus, "2,3".parse().ok());
        assert_eq!((&rtp.traffic, rtp.queue, rtp.priority), (&Traffic::Rtp, Some(0), None));
    }

    #[test]
    fn packets_are_steered_before_the_stack_where_that_is_wished() {
        let wish = "[media.steering]\nrtp_cpus = \"1-2\"\nbefore_stack = true\n";
        let text = format!("{BASE}[media]\nxdp = \"auto\"\n{wish}");
        let config = crate::config::Config::parse(&text, Path::new("v.toml"), &Vec::new).unwrap();
        let steering = config.media.unwrap().steering;
        assert_eq!((steering.before_stack, steering.cpus()), (true, vec![1, 2]));
        assert!(
            !parse("rtp_cpus = \"1\"\n").unwrap().before_stack,
            "it is not asked for by itself"
        );
    }

    #[test]
    fn what_is_no_good_is_told_with_its_line() {
        for (text, said) in [
            ("sip_cpus = \"a\"\n", "v.toml:12:"),
            ("rtp_cpus = \"3-1\"\n", "such as \"0-3,6\""),
            ("rtp_queue = 65536\n", "0 to 65535"),
            ("ingress = [\"a name that is long\"]\n", "each 1 to 15 bytes"),
            ("ingress = \"eth0\"\n", "media.steering.ingress"),
            ("sip_queue = 1\n", "media.steering.sip_queue"),
            ("before_stack = 1\n", "media.steering.before_stack"),
            ("before_stack = true\n", "with `sip_cpus` or `rtp_cpus`"),
            ("rtp_cpus = \"1\"\nbefore_stack = true\n", "with `xdp = \"auto\"` in [media]"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text} gave {error}");
        }
    }
}
