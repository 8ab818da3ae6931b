//! REGISTERs as text against a registrar, by requirement.

mod expiry;
mod extensions;
mod model;
mod path;
mod rules;

use std::sync::Arc;

use viaduct_message::{Head, Limits, Message, check};

use super::{Registrar, SaveAnswer, SaveInput, SaveRefusal, save};
use crate::flow::{ConnId, Flow, Transport};
use crate::path::PathKeys;
use crate::registrar::{BindingSet, SaveFlags};
use crate::settings::Listener;
use crate::time::Now;

const START_MS: u64 = 1_900_000_000_000;

/// One AoR at a registrar, with a clock.
struct Desk {
    registrar: Registrar,
    flags: SaveFlags,
    flow: Flow,
    trusted: bool,
    fix_nat: bool,
    attributes: &'static [u8],
    keys: PathKeys,
    /// Via lines of the REGISTER beyond the first.
    via: &'static str,
    seed: u64,
    /// Of the last [`Desk::granted`].
    cseq: u32,
    set: Option<Arc<BindingSet>>,
    now_ms: u64,
}

impl Desk {
    fn new() -> Desk {
        Desk {
            registrar: Registrar::default(),
            flags: SaveFlags::default(),
            flow: Flow {
                transport: Transport::Udp,
                local: "192.0.2.1:5060".parse().unwrap(),
                remote: "198.51.100.7:40000".parse().unwrap(),
                conn: ConnId::NONE,
            },
            trusted: false,
            fix_nat: false,
            attributes: b"",
            keys: PathKeys::new(vec![(1, vec![1; 32])]).unwrap(),
            via: "",
            seed: 42,
            cseq: 0,
            set: None,
            now_ms: START_MS,
        }
    }

    fn with_flags(flags: &str) -> Desk {
        Desk { flags: SaveFlags::parse(flags).unwrap(), ..Desk::new() }
    }

    /// A REGISTER with these header lines; what it changes is kept.
    fn register(
        &mut self,
        call: &str,
        cseq: u32,
        lines: &[&str],
    ) -> Result<SaveAnswer, SaveRefusal> {
        self.save(call, cseq, lines, None)
    }

    /// A REGISTER that was forwarded, and the 2xx to it.
    fn granted(&mut self, lines: &[&str], response: &str) -> Result<SaveAnswer, SaveRefusal> {
        let text = format!("SIP/2.0 200 OK\r\n{response}\r\n\r\n");
        let mut head = Head::new();
        head.scan(text.as_bytes(), &Limits::default()).unwrap();
        self.cseq += 1;
        self.save("c", self.cseq, lines, Some(Message::new(text.as_bytes(), &head)))
    }

    fn save(
        &mut self,
        call: &str,
        cseq: u32,
        lines: &[&str],
        granted: Option<Message<'_>>,
    ) -> Result<SaveAnswer, SaveRefusal> {
        let mut text = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n{}\
             From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\n\
             Call-ID: {call}\r\nCSeq: {cseq} REGISTER\r\n",
            self.via
        );
        for line in lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let mut head = Head::new();
        head.scan(text.as_bytes(), &Limits::default()).unwrap();
        let listeners = [Listener {
            transport: Transport::Tcp,
            addr: "192.0.2.9:5070".parse().unwrap(),
            host: "192.0.2.9".into(),
            port: 5070,
        }];
        let message = Message::new(text.as_bytes(), &head);
        let input = SaveInput {
            message,
            contact: None,
            flow: &self.flow,
            trusted: self.trusted,
            fix_nat: self.fix_nat,
            attributes: self.attributes,
            flags: &self.flags,
            registrar: &self.registrar,
            listeners: &listeners,
            aor: b"alice@example.com",
            keys: &self.keys,
            granted,
            seed: self.seed,
            current: self.set.as_ref(),
            now: Now { mono_us: 0, unix_ms: self.now_ms },
        };
        // What was read on the way says the same as reading it again.
        let contact = check::request(message).ok().and_then(|read| read.contact);
        let again = save(&SaveInput { contact, ..input });
        let answer = save(&input);
        assert_eq!(format!("{again:?}"), format!("{answer:?}"), "{text}");
        let answer = answer?;
        if let Some(set) = &answer.set {
            self.set = Some(Arc::clone(set));
        }
        Ok(answer)
    }

    fn status(&mut self, call: &str, cseq: u32, lines: &[&str]) -> u16 {
        self.register(call, cseq, lines).map_or_else(|refusal| refusal.status, |_| 200)
    }

    /// Live contacts.
    fn contacts(&self) -> Vec<String> {
        let Some(set) = &self.set else { return Vec::new() };
        let live = set.live(self.now_ms);
        live.map(|b| String::from_utf8_lossy(b.contact()).into_owned()).collect()
    }

    /// A field of the first binding as text.
    fn first(&self, field: impl Fn(&crate::registrar::BindingFields<'_>) -> Vec<u8>) -> String {
        let set = self.set.as_ref().unwrap();
        String::from_utf8(field(&set.bindings.first().unwrap().fields())).unwrap()
    }
}

fn text(headers: &[u8]) -> String {
    String::from_utf8(headers.to_vec()).unwrap()
}

/// Lines of one header in a list of lines, values only.
fn lines_of(headers: &[u8], name: &str) -> Vec<String> {
    let prefix = format!("{name}: ");
    text(headers).lines().filter_map(|line| line.strip_prefix(&prefix)).map(Into::into).collect()
}
