//! Two networks that cannot reach each other, with a router between them and SIPp phones in them whose
//! descriptions name addresses nobody can reach. For the tests of media.
// Each test file uses its own part of it.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::netns::Namespace;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{Router, Setup};
use viaduct_tests::support::sipp::Sipp;

pub const DOMAIN: &str = "example.com";
/// An address of nobody here, in the descriptions and Contacts of both phones.
const PRIVATE: &str = "10.255.255.1";
/// Packets in the capture, which is played twice in a call.
pub const PACKETS: u32 = 100;
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A router between two networks, and its folder.
pub struct Stand {
    pub callers: Namespace,
    pub callees: Namespace,
    pub router: Router,
    _folder: TempDir,
}

impl Stand {
    /// `None`: without namespaces here.
    pub fn new() -> Result<Option<Stand>> {
        Stand::with(|_, _| Ok(()))
    }

    /// The same with something changed before the router starts.
    pub fn with(
        change: impl FnOnce(&mut Setup, [&Namespace; 2]) -> Result<()>,
    ) -> Result<Option<Stand>> {
        let Some(callers) = Namespace::numbered(0)? else { return Ok(None) };
        let Some(callees) = Namespace::numbered(1)? else { return Ok(None) };
        let folder = TempDir::new()?;
        let shipped = policy::shipped("default-script")?;
        let policy = policy::copy_with(&shipped, &folder.path().join("p.wasm"), |manifest| {
            policy::set(manifest, "media", "nat");
        })?;
        let listen = SocketAddr::from((callers.gateway(), 5060));
        let mut setup = Setup::new(listen, DOMAIN, policy);
        let (a, b) = (callers.gateway(), callees.gateway());
        setup.store = format!(
            "[media]\nidle_s = 30\n[[media.address]]\nname = \"callers\"\naddress = \"{a}\"\n\
             [[media.address]]\nname = \"callees\"\naddress = \"{b}\"\n"
        );
        change(&mut setup, [&callers, &callees])?;
        let router = Router::start(&setup)?;
        Ok(Some(Stand { callers, callees, router, _folder: folder }))
    }

    fn phone(&self, scenario: &str, at: &Namespace) -> Sipp {
        let local = SocketAddr::from((at.address(), 5062));
        Sipp::new(scenario, Transport::Udp, local)
            .to(self.router.listen())
            .inside(at.name())
            .key("domain", DOMAIN)
            .key("private", PRIVATE)
            .call_ids("media-%u@test")
            .trace_messages()
    }

    pub fn callee(&self) -> Sipp {
        self.phone("media.uas", &self.callees).key("user", "bob").echo(7_000)
    }

    pub fn caller(&self) -> Sipp {
        self.caller_holding(1_500)
    }

    /// It is silent for so many milliseconds between the two times it plays, playing included.
    pub fn caller_holding(&self, hold_ms: u32) -> Sipp {
        let phone = self.phone("media.uac", &self.callers).service("bob").key("caller", "alice");
        phone
            .key("hold", &hold_ms.to_string())
            .media_port(6_000)
            .file("audio.pcap", capture(PACKETS))
    }

    /// The one call whose media are relayed, as the admin API shows it; waits for it.
    pub fn shown(&self) -> Result<Value> {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let list: Value =
                serde_json::from_str(&self.router.cli(&["--json", "media", "list"])?)?;
            if let Some(call) = list.get(0) {
                return Ok(call.clone());
            }
            ensure!(std::time::Instant::now() < deadline, "no call's media were ever relayed");
        }
    }

    /// What the log says of one side when the call has ended.
    pub fn leg(&self, side: &str) -> Result<String> {
        self.router.wait_for_line("the end of a leg", PATIENCE, |line| {
            line.contains("leg ended") && line.contains(side)
        })
    }
}

/// A capture of RTP as SIPp plays it: `packets` of PCMU, 10 ms apart, over Ethernet and IPv4.
pub fn capture(packets: u32) -> Vec<u8> {
    const PAYLOAD: usize = 80;
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 65_535, 1] {
        file.extend_from_slice(&word.to_ne_bytes());
    }
    // Version 2.4: two halves of a word.
    file.splice(4..8, [2u16.to_ne_bytes(), 4u16.to_ne_bytes()].concat());
    for n in 0..packets {
        let rtp_len = 12 + PAYLOAD;
        let (udp_len, ip_len) = (rtp_len + 8, rtp_len + 28);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, (ip_len >> 8) as u8, ip_len as u8, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        frame.extend([0x17, 0x70, 0x17, 0x70, (udp_len >> 8) as u8, udp_len as u8, 0, 0]);
        frame.extend([0x80, 0]);
        frame.extend((n as u16).to_be_bytes());
        frame.extend((n * 80).to_be_bytes());
        frame.extend([0, 0, 0, 7]);
        frame.extend([0xff; PAYLOAD]);
        let micros = n * 10_000;
        for word in [micros / 1_000_000, micros % 1_000_000, frame.len() as u32, frame.len() as u32]
        {
            file.extend_from_slice(&word.to_ne_bytes());
        }
        file.extend_from_slice(&frame);
    }
    file
}

/// Packets of both sides that were relayed.
pub fn relayed(call: &Value) -> u64 {
    let of = |side: &str| {
        call.pointer(&format!("/streams/0/{side}/packets")).and_then(Value::as_u64).unwrap_or(0)
    };
    of("caller") + of("callee")
}

/// The router's ports for RTP of both sides.
pub fn locals(call: &Value) -> Result<[SocketAddr; 2]> {
    let at = |side: &str| -> Result<SocketAddr> {
        let local = call.pointer(&format!("/streams/0/{side}/local")).and_then(Value::as_str);
        Ok(local.with_context(|| format!("no local address in {call}"))?.parse()?)
    };
    Ok([at("caller")?, at("callee")?])
}

pub fn wait_for_binding(router: &Router) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        // It has no event for a bystander to wait for.
        if router.cli(&["location", "show", "bob@example.com"]).is_ok() {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "bob never registered:\n{}", router.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}
