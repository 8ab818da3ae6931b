//! A provider with a poll loop around it, and a clock the test sets.

use mio::{Events, Poll};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use viaduct_engine::{ConnId, Flow, Token, Transport};
use viaduct_message::Fault;
use viaduct_transport::{CloseReason, SendBatch, TcpConfig, TcpEvent, TcpProvider};

pub(crate) const FAMILIES: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An event with its bytes.
#[derive(Debug)]
pub(crate) enum Record {
    Opened,
    Message { flow: Flow, bytes: Vec<u8> },
    Malformed { bytes: Vec<u8>, fault: Fault },
    SendFailed { token: Token, bytes: Vec<u8> },
    Closed { reason: CloseReason },
}

pub(crate) struct Node {
    pub(crate) tcp: TcpProvider,
    pub(crate) batch: SendBatch,
    pub(crate) local: SocketAddr,
    pub(crate) records: Vec<Record>,
    /// What to answer where the stream is broken.
    pub(crate) answer_malformed: Option<&'static [u8]>,
    /// Send every message back over its flow.
    pub(crate) echo: bool,
    now_us: u64,
    poll: Poll,
    events: Events,
}

/// Times that differ from each other and are short enough to write down.
pub(crate) fn config() -> TcpConfig {
    TcpConfig {
        idle_us: 1_000_000,
        message_us: 10_000,
        connect_us: 5_000,
        write_us: 3_000,
        linger_us: 2_000,
        ..TcpConfig::default()
    }
}

/// A request with a body of `body` bytes.
pub(crate) fn message(number: usize, body: usize) -> Vec<u8> {
    let line = format!("OPTIONS sip:{number}@example.com SIP/2.0\r\n");
    let fields = format!("Call-ID: {number}\r\nContent-Length: {body}\r\n\r\n");
    let mut bytes = (line + &fields).into_bytes();
    bytes.resize(bytes.len() + body, b'b');
    bytes
}

impl Node {
    pub(crate) const WORKER: u8 = 3;

    pub(crate) fn new(family: &str, config: TcpConfig) -> Node {
        let poll = Poll::new().unwrap();
        let mut tcp = TcpProvider::new(Self::WORKER, config, poll.registry(), 100).unwrap();
        let local = tcp.listen(family.parse().unwrap()).unwrap();
        Node {
            tcp,
            batch: SendBatch::new(),
            local,
            records: Vec::new(),
            answer_malformed: None,
            echo: false,
            now_us: 1,
            poll,
            events: Events::with_capacity(64),
        }
    }

    /// Connects a plain peer.
    pub(crate) fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.local).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(crate) fn flow_to(&self, remote: SocketAddr) -> Flow {
        Flow { transport: Transport::Tcp, local: self.local, remote, conn: ConnId::NONE }
    }

    /// One turn with what is there now.
    pub(crate) fn step(&mut self) {
        self.wait(Duration::ZERO);
    }

    /// Turns until nothing is left to do at once.
    pub(crate) fn settle(&mut self) {
        self.wait(Duration::from_millis(1));
        while self.tcp.has_work() {
            self.step();
        }
    }

    /// Turns until something has happened.
    pub(crate) fn until(&mut self, done: impl Fn(&Node) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "waited in vain; so far: {:?}", self.records);
            let work = self.tcp.has_work() || !self.batch.is_empty();
            self.wait(if work { Duration::ZERO } else { Duration::from_millis(20) });
        }
    }

    /// Moves the clock on.
    pub(crate) fn pass(&mut self, span_us: u64) {
        self.now_us += span_us;
        let records = &mut self.records;
        self.tcp.on_tick(self.now_us, &mut |event| records.extend(record(&event)));
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        let records = &mut self.records;
        self.tcp.close(conn, &mut |event| records.extend(record(&event)));
    }

    fn wait(&mut self, timeout: Duration) {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        for event in &self.events {
            assert!(self.tcp.owns(event.token()));
            self.tcp.ready(event);
        }
        let (records, batch) = (&mut self.records, &mut self.batch);
        let (answer, echo) = (self.answer_malformed, self.echo);
        self.tcp.turn(self.now_us, &mut |event| {
            records.extend(record(&event));
            match event {
                TcpEvent::Message { flow, bytes } if echo => batch.push(flow, bytes, Token(1)),
                TcpEvent::Malformed { flow, .. } => {
                    if let Some(bytes) = answer {
                        batch.push(flow, bytes, Token(0));
                    }
                }
                _ => {}
            }
        });
        self.tcp.flush(self.now_us, batch, &mut |event| records.extend(record(&event)));
        assert!(batch.is_empty());
    }

    pub(crate) fn messages(&self) -> Vec<(Flow, Vec<u8>)> {
        let messages = self.records.iter().filter_map(|record| match record {
            Record::Message { flow, bytes } => Some((*flow, bytes.clone())),
            _ => None,
        });
        messages.collect()
    }

    pub(crate) fn failed(&self) -> Vec<(Token, Vec<u8>)> {
        let failed = self.records.iter().filter_map(|record| match record {
            Record::SendFailed { token, bytes } => Some((*token, bytes.clone())),
            _ => None,
        });
        failed.collect()
    }

    pub(crate) fn closed(&self) -> Vec<CloseReason> {
        let closed = self.records.iter().filter_map(|record| match record {
            Record::Closed { reason } => Some(*reason),
            _ => None,
        });
        closed.collect()
    }
}

fn record(event: &TcpEvent<'_>) -> Option<Record> {
    Some(match event {
        TcpEvent::Opened { .. } => Record::Opened,
        TcpEvent::Message { flow, bytes } => Record::Message { flow: *flow, bytes: bytes.to_vec() },
        TcpEvent::Malformed { bytes, fault, .. } => {
            Record::Malformed { bytes: bytes.to_vec(), fault: *fault }
        }
        TcpEvent::SendFailed { token, bytes, .. } => {
            Record::SendFailed { token: *token, bytes: bytes.to_vec() }
        }
        TcpEvent::Closed { reason, .. } => Record::Closed { reason: *reason },
    })
}
