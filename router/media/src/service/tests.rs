//! Calls as the engine would hand them over, message by message.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod fuzz;
mod life;
mod restart;
mod signalling;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use viaduct_engine::Now;
use viaduct_engine::media::{
    Action, Handled, Media as _, MediaFault, MediaFlags, MediaMessage, MediaRecord, Order, Tags,
};
use viaduct_message::Method;

use super::{Config, Interface, Service};
use crate::call::Settings;
use crate::executor::{Executor, ExecutorError};
use crate::relay::{self, Packet, Relay, Verdict};
use crate::sdp::Sdp;
use crate::session::{Event, Learn, Leg, Rank, Report, Session};

/// The relay without sockets, on a clock the test moves.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<DeskState>>);

#[derive(Default)]
struct DeskState {
    relay: Relay,
    now_ms: u64,
    /// Ports somebody else has.
    taken: Vec<u16>,
    sessions: usize,
}

impl DeskState {
    fn now(&self) -> relay::Now {
        relay::Now { ns: self.now_ms * 1_000_000 }
    }
}

impl Executor for Desk {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        let mut desk = self.0.lock().unwrap();
        let legs = sessions.iter().flat_map(|session| &session.legs);
        if legs.into_iter().any(|leg| desk.taken.contains(&leg.local.port())) {
            return Err(relay::refused("in use", std::io::ErrorKind::AddrInUse));
        }
        desk.sessions += sessions.len();
        let now = desk.now();
        desk.relay.add(now, sessions)
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        let mut desk = self.0.lock().unwrap();
        let now = desk.now();
        desk.relay.set(now, legs)
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let mut desk = self.0.lock().unwrap();
        let now = desk.now();
        let report = desk.relay.remove(local, now)?;
        desk.sessions -= 1;
        Ok(report)
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let desk = self.0.lock().unwrap();
        desk.relay.report(local, desk.now())
    }

    fn restore(&mut self, session: &Session, stood: Option<&Report>) -> Result<(), ExecutorError> {
        self.add(std::slice::from_ref(session))?;
        let mut desk = self.0.lock().unwrap();
        let now = desk.now();
        stood.into_iter().for_each(|stood| desk.relay.adopt(now, stood));
        Ok(())
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        let desk = self.0.lock().unwrap();
        Ok(desk.relay.reports(desk.now()))
    }

    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        let mut desk = self.0.lock().unwrap();
        let now = desk.now();
        Ok(desk.relay.events(now))
    }
}

struct Stand {
    service: Service,
    desk: Desk,
    records: Arc<Mutex<Vec<MediaRecord>>>,
    now_ms: u64,
    ports: u64,
}

fn config() -> Config {
    let interface = |name: &str, ip: &str| Interface {
        name: name.into(),
        ip: ip.parse().unwrap(),
        advertised: None,
        ports: 30_000..=30_199,
    };
    Config {
        interfaces: vec![interface("v4", "198.51.100.1"), interface("v6", "2001:db8::1")],
        settings: Settings {
            learn: Learn { window_ms: 3_000, settle_ms: 500, lowest: Rank::Any },
            idle_s: 60,
            dscp_audio: Some(46),
            dscp_video: Some(34),
            loopback: false,
            handover: false,
        },
        calls: 10,
        lifetime_s: 7_200,
        unanswered_s: 600,
        held_s: 3_600,
        rest_ms: 0,
        grace_s: 60,
    }
}

impl Stand {
    fn new() -> Stand {
        Stand::with(config())
    }

    fn with(config: Config) -> Stand {
        let desk = Desk::default();
        desk.0.lock().unwrap().relay = Relay::new();
        let records: Arc<Mutex<Vec<MediaRecord>>> = Arc::default();
        let kept = Arc::clone(&records);
        let sink = Box::new(move |record| kept.lock().unwrap().push(record));
        let service = Service::new(config, Box::new(desk.clone()), sink).unwrap();
        let ports = service.numbers().ports_free;
        Stand { service, desk, records, now_ms: 0, ports }
    }

    fn now(&self) -> Now {
        Now { mono_us: self.now_ms * 1_000, unix_ms: 1_000_000 + self.now_ms }
    }

    fn pass(&mut self, seconds: u64) {
        self.now_ms += seconds * 1_000;
        self.desk.0.lock().unwrap().now_ms = self.now_ms;
        self.service.tick(self.now());
    }

    /// Hands a message over with `manage`; its body as it goes on.
    fn manage(&self, message: &Message) -> Result<String, MediaFault> {
        self.order(Action::Manage, "", message)
    }

    fn order(&self, action: Action, flags: &str, m: &Message) -> Result<String, MediaFault> {
        let order = Order { action, flags: MediaFlags::parse(flags).unwrap() };
        let about = MediaMessage {
            tags: m.tags(),
            method: m.method,
            status: m.status,
            branch: m.branch,
            source: "203.0.113.77".parse().unwrap(),
            local: "198.51.100.1".parse().unwrap(),
            content_type: m.content_type.as_bytes(),
            body: m.body.as_bytes(),
        };
        let Handled::Done(after) = self.service.handle(self.now(), &order, &about)? else {
            panic!("this relay asks nobody");
        };
        Ok(after.map_or(m.body.clone(), |body| String::from_utf8(body).unwrap()))
    }

    fn refused(&self, message: &Message, branch: Option<u32>) {
        self.service.refused(self.now(), message.tags(), branch);
    }

    /// A packet at one of our ports: where it is sent on to.
    fn packet(&self, at: SocketAddr, from: &str) -> Option<SocketAddr> {
        let mut desk = self.desk.0.lock().unwrap();
        let mut data = [0u8; 32];
        (data[0], data[11]) = (0x80, 1);
        let packet = Packet { source: from.parse().unwrap(), tclass: 0, ttl: 64, data: &data };
        let now = desk.now();
        let verdict = desk.relay.receive(now, at, packet);
        let Verdict::Forward(forward) = verdict else { return None };
        desk.relay.sent(now, at, (packet, forward), None);
        Some(forward.to)
    }

    /// Nothing is relayed, and no port is in use.
    fn check_empty(&mut self) {
        assert_eq!(self.desk.0.lock().unwrap().sessions, 0);
        assert!(self.service.list(self.now(), 100).is_empty());
        self.now_ms += 1;
        // A released port counts as free when the pool is asked the next time.
        let probe = Message { call_id: "probe".to_owned(), ..Message::invite("probe") };
        self.manage(&probe.with(&sdp("192.0.2.1", 4_000))).unwrap();
        self.refused(&probe, None);
        assert_eq!(self.service.numbers().ports_free, self.ports);
    }

    fn last_record(&self) -> MediaRecord {
        self.records.lock().unwrap().last().unwrap().clone()
    }
}

/// A message of one call.
#[derive(Clone, Debug)]
struct Message {
    call_id: String,
    method: Method,
    status: u16,
    from: &'static str,
    to: &'static str,
    branch: Option<u32>,
    content_type: &'static str,
    body: String,
}

impl Message {
    fn invite(from: &'static str) -> Message {
        Message {
            call_id: "call".to_owned(),
            method: Method::Invite,
            status: 0,
            from,
            to: "",
            branch: None,
            content_type: "application/sdp",
            body: String::new(),
        }
    }

    fn of(method: Method, from: &'static str, to: &'static str) -> Message {
        Message { method, to, ..Message::invite(from) }
    }

    /// A response to it.
    fn answer(&self, status: u16, to: &'static str) -> Message {
        Message { status, to, body: String::new(), ..self.clone() }
    }

    fn with(&self, body: &str) -> Message {
        Message { body: body.to_owned(), ..self.clone() }
    }

    fn in_branch(&self, branch: u32) -> Message {
        Message { branch: Some(branch), ..self.clone() }
    }

    fn tags(&self) -> Tags<'_> {
        let (from, to) = (self.from.as_bytes(), self.to.as_bytes());
        Tags { call_id: self.call_id.as_bytes(), from, to }
    }
}

fn sdp(ip: &str, port: u16) -> String {
    let family = if ip.contains(':') { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\n"
    )
}

/// Where the first stream of a description is.
fn place(text: &str) -> SocketAddr {
    Sdp::read(text.as_bytes()).unwrap().media[0].peer().unwrap()
}

fn is_ours(text: &str) -> bool {
    let ours: [IpAddr; 2] = ["198.51.100.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    ours.contains(&place(text).ip())
}
