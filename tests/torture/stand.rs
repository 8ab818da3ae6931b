//! The test stand: a router, a client that sends torture messages, and the phone they may reach.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::sip_client::PATIENCE;
use viaduct_tests::support::sip_text::{Received, Request, unique};

use crate::flow::{Arrival, Flow};
use crate::node::{Listen, Node};
use crate::octets::{self, Pieces};
use crate::sink::Sink;

/// The AoR of probes, and the domain all collections have.
const PROBE: &str = "probe";
pub(crate) const DOMAIN: &str = "example.com";

/// Where a collection is sent: the domains its Request-URIs are in, and the addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) domains: &'static [&'static str],
    /// Addresses with ports that listeners stand for.
    pub(crate) addresses: &'static [&'static str],
    /// IPv6 loopback, where the machine has it.
    pub(crate) v6: bool,
}

/// What came of a message.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Final responses, in order.
    pub(crate) finals: Vec<Vec<u8>>,
    /// Requests the sink got, in order.
    pub(crate) forwarded: Vec<Vec<u8>>,
    /// The router has closed the connection.
    pub(crate) closed: bool,
}

/// What a message asks of the stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// So many final responses, then a probe.
    Finals(usize),
    /// None may come: the probe is sent at once.
    None,
    /// The end of the connection, with or without a response before.
    Close,
}

#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) node: Node,
    pub(crate) sink: Sink,
    client: Flow,
    ip: IpAddr,
    server: SocketAddr,
    transport: Transport,
    /// Transactions that messages have begun: no second message may fall into one.
    begun: HashSet<Vec<u8>>,
}

impl Stand {
    pub(crate) fn start(place: Place, transport: Transport) -> Result<Self> {
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let own = || if place.v6 { v6 } else { own_address() };
        let ip = own();
        let listen = |(index, advertise)| Listen { address: listen_at(ip, index), advertise };
        let listen: Vec<Listen> = if place.addresses.is_empty() {
            vec![listen((0, None))]
        } else {
            place.addresses.iter().map(|one| Some(*one)).enumerate().map(listen).collect()
        };
        let server = listen.first().context("no listener")?.address;
        let node = Node::start(&listen, place.domains)?;
        let mut sink = Sink::start(transport, own(), server)?;
        sink.register(PROBE, DOMAIN)?;
        let ip = own();
        let client = Flow::open(transport, ip, server)?;
        Ok(Self { node, sink, client, ip, server, transport, begun: HashSet::new() })
    }

    /// Another flow like the client's.
    pub(crate) fn another(&self) -> Result<Flow> {
        Flow::open(self.transport, self.ip, self.server)
    }

    /// The client's address.
    pub(crate) fn client(&self) -> SocketAddr {
        self.client.local()
    }

    /// Notes that a message begins this transaction. False: another has, and it may still live.
    pub(crate) fn begin(&mut self, transaction: Vec<u8>) -> bool {
        self.begun.insert(transaction)
    }

    /// Sends a message and a probe behind it, and collects what comes until the probe is answered.
    /// The probe goes the way of the message, client to sink, and overtakes nothing: what the
    /// router does because of the message is seen before it.
    pub(crate) fn exchange(&mut self, message: &[u8], wait: Wait) -> Result<Exchange> {
        self.client.send(message)?;
        let mut seen = Exchange { finals: Vec::new(), forwarded: Vec::new(), closed: false };
        let mut probe = None;
        if wait == Wait::None {
            probe = self.probe()?;
        }
        loop {
            let arrival = self.client.receive(PATIENCE)?;
            match arrival {
                None => bail!("{wait:?}: nothing came; before that {}", describe(&seen)),
                Some(Arrival::Closed) => {
                    ensure!(!seen.closed, "closed twice; before that {}", describe(&seen));
                    seen.closed = true;
                    self.client = self.another()?;
                    probe = self.probe()?;
                }
                Some(Arrival::Message(answer)) => {
                    let pieces = Pieces::cut(&answer);
                    let status = pieces.status();
                    let status = status
                        .with_context(|| format!("the client got\n{}", octets::text(&answer)))?;
                    if probe.is_some() && pieces.value("call-id") == probe {
                        break;
                    }
                    if status < 200 {
                        continue;
                    }
                    self.acknowledge(message, &answer)?;
                    seen.finals.push(answer);
                }
            }
            if probe.is_none() && wait == Wait::Finals(seen.finals.len()) {
                probe = self.probe()?;
            }
        }
        seen.forwarded = self.sink.taken();
        let last = seen.forwarded.pop().context("the probe did not reach the sink")?;
        ensure!(Pieces::cut(&last).value("call-id") == probe, "the probe was overtaken");
        Ok(seen)
    }

    /// Asks for the bindings of an AoR.
    pub(crate) fn bindings(&mut self, user: &str, host: &str) -> Result<Vec<String>> {
        let request = Request::fetch(user, host).render(self.transport, self.client.local());
        self.client.send(request.as_bytes())?;
        match self.client.receive(PATIENCE)? {
            Some(Arrival::Message(answer)) => {
                ensure!(Pieces::cut(&answer).status() == Some(200), "{}", octets::text(&answer));
                Ok(contacts(&answer))
            }
            other => bail!("asked for the bindings of {user}@{host}: {other:?}"),
        }
    }

    /// Sends an OPTIONS to the sink; its Call-ID. `None` where the connection has gone meanwhile,
    /// which receiving tells.
    fn probe(&mut self) -> Result<Option<String>> {
        let call_id = unique("probe");
        let uri = format!("sip:{PROBE}@{DOMAIN}");
        let request = Request::new("OPTIONS", &uri, "sip:tester@test.example", &uri)
            .with("Call-ID", &call_id)
            .render(self.transport, self.client.local());
        let sent = self.client.send(request.as_bytes());
        match (sent, self.transport) {
            (Err(_), Transport::Tcp) => Ok(None),
            (sent, _) => sent.map(|()| Some(call_id)),
        }
    }

    /// RFC 3261 17.1.1.3: the ACK to a failure, so that it is not sent again. A 400 to what cannot
    /// be read has no transaction behind it and wants none.
    fn acknowledge(&mut self, request: &[u8], answer: &[u8]) -> Result<()> {
        let (request, answer) = (Pieces::cut(request), Pieces::cut(answer));
        let failure = answer.status().is_some_and(|status| status > 400);
        if request.method() != Some(b"INVITE") || !failure {
            return Ok(());
        }
        let mut ack = b"ACK".to_vec();
        ack.extend_from_slice(request.start.strip_prefix(b"INVITE").unwrap_or_default());
        let via = request.all("via").next().context("no Via")?;
        let number = answer.value("cseq").unwrap_or_default();
        let number = number.split_whitespace().next().unwrap_or_default().to_owned();
        let cseq = format!("CSeq: {number} ACK").into_bytes();
        let mut fields = vec![via];
        for name in ["from", "to", "call-id"] {
            fields.extend(answer.all(name).next());
        }
        fields.extend([cseq.as_slice(), b"Max-Forwards: 70", b"Content-Length: 0", b""]);
        for field in fields {
            ack.extend_from_slice(b"\r\n");
            ack.extend_from_slice(field);
        }
        ack.extend_from_slice(b"\r\n");
        self.client.send(&ack)
    }
}

/// Waits until the router closes a connection; false when `within` passes first.
pub(crate) fn is_closed(flow: &mut Flow, within: Duration) -> Result<bool> {
    match flow.receive(within)? {
        None => Ok(false),
        Some(Arrival::Closed) => Ok(true),
        Some(Arrival::Message(answer)) => bail!("instead came\n{}", octets::text(&answer)),
    }
}

/// The Contact values of a message.
pub(crate) fn contacts(message: &[u8]) -> Vec<String> {
    let text = octets::text(message);
    Received { text, from: ([0, 0, 0, 0], 0).into() }.list("Contact")
}

/// Whether this machine has an IPv6 loopback address.
pub(crate) fn has_v6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// What was seen so far, for error messages.
fn describe(seen: &Exchange) -> String {
    let finals: Vec<String> = seen.finals.iter().map(|answer| octets::text(answer)).collect();
    format!("{finals:#?}, closed: {}", seen.closed)
}

/// An address to listen on. IPv4: every stand has addresses of its own. IPv6 has one, so ports are
/// counted, below those the kernel gives away.
fn listen_at(ip: IpAddr, index: usize) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let port = match ip {
        IpAddr::V4(_) => 5060 + u16::try_from(index).unwrap_or_default() * 10,
        IpAddr::V6(_) => {
            let own = u16::try_from(process::id() % 600).unwrap_or_default() * 32;
            10_000 + own + NEXT.fetch_add(1, Ordering::Relaxed) % 32
        }
    };
    SocketAddr::new(ip, port)
}
