//! A phone: it registers and stays registered, calls and is called, sends again what gets lost, and
//! complains about whatever a router should not have sent it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::call::{Leg, Served};
use crate::dice::Dice;
use crate::router::DOMAIN;
use crate::text::Sip;

pub(crate) const T1_US: u64 = 500_000;
pub(crate) const T2_US: u64 = 4_000_000;
/// 64 T1: how long a transaction tries.
pub(crate) const GIVE_UP_US: u64 = 32_000_000;
/// Late answers to a request are checked for so long.
const REMEMBER_US: u64 = 100_000_000;
/// Timer C and the timers behind it.
const LONGEST_US: u64 = 250_000_000;
/// How often a phone keeps its NAT's mapping alive (RFC 5626 4.4.2).
const KEEPALIVE_US: u64 = 25_000_000;

/// What a phone sends; `Err` of what it receives is a promise that a router broke.
pub(crate) type Outgoing = Vec<(SocketAddr, Vec<u8>)>;

/// What a request of ours is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Register { cseq: u32 },
    Invite { call_id: String },
    Bye { call_id: String },
    Cancel,
}

/// A client transaction.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) purpose: Purpose,
    pub(crate) bytes: Vec<u8>,
    pub(crate) to: SocketAddr,
    pub(crate) began_us: u64,
    /// When it is sent again; `None`: not any more.
    pub(crate) resend_us: Option<u64>,
    pub(crate) interval_us: u64,
    pub(crate) provisional: bool,
    /// Final answers seen: status and To tag.
    pub(crate) finals: Vec<(u16, String)>,
    /// Routers' lives when it began: an answer of a router that has crashed meanwhile may be
    /// another one.
    pub(crate) lives: u64,
}

/// A registration as the phone knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    /// Every REGISTER sent: sequence number, expiry, when it was first sent.
    pub(crate) sent: Vec<(u32, u64, u64)>,
    /// The newest that was acknowledged.
    pub(crate) acknowledged: Option<(u32, u64, u64)>,
}

/// A phone.
pub(crate) struct Phone {
    pub(crate) at: SocketAddr,
    /// Speaks TCP.
    pub(crate) stream: bool,
    /// Describes its media in calls.
    pub(crate) media: bool,
    pub(crate) user: String,
    pub(crate) proxy: SocketAddr,
    pub(crate) register_id: String,
    pub(crate) claim: Claim,
    /// Registered it wants to be.
    pub(crate) wants: bool,
    /// It answers every call.
    pub(crate) polite: bool,
    pub(crate) clients: BTreeMap<String, Client>,
    /// Requests it got, by branch.
    pub(crate) served: BTreeMap<String, Served>,
    /// Calls by Call-ID.
    pub(crate) legs: BTreeMap<String, Leg>,
    pub(crate) dice: Dice,
    /// Crashes of routers so far, and when the last one was: kept by the world.
    pub(crate) lives: u64,
    pub(crate) crashed_us: Option<u64>,
    /// When it last lost a stream.
    pub(crate) lost_us: Option<u64>,
    expires_s: u64,
    refresh_us: Option<u64>,
    keepalive_us: Option<u64>,
    rests: bool,
    serial: u64,
}

impl Phone {
    pub(crate) fn new(
        at: SocketAddr,
        stream: bool,
        user: &str,
        proxy: SocketAddr,
        dice: Dice,
    ) -> Phone {
        Phone {
            at,
            stream,
            media: false,
            user: user.to_owned(),
            proxy,
            register_id: format!("reg-{at}"),
            claim: Claim::default(),
            wants: false,
            polite: false,
            clients: BTreeMap::new(),
            served: BTreeMap::new(),
            legs: BTreeMap::new(),
            dice,
            lives: 0,
            crashed_us: None,
            lost_us: None,
            expires_s: 0,
            refresh_us: None,
            keepalive_us: None,
            rests: false,
            serial: 0,
        }
    }

    /// Registers, and stays registered.
    pub(crate) fn register(&mut self, now_us: u64, expires_s: u64, out: &mut Outgoing) {
        (self.wants, self.expires_s) = (true, expires_s);
        // The end of a stream shows by itself here.
        self.keepalive_us = (!self.stream).then_some(now_us + KEEPALIVE_US);
        self.send_register(now_us, out);
    }

    /// One of its streams is gone, or a router takes none: it registers again (RFC 5626 4.5), and
    /// what was under way it does not send again (RFC 3261 17.1.4).
    pub(crate) fn lose_stream(&mut self, now_us: u64) {
        self.lost_us = Some(now_us);
        if !self.rests && (self.wants || self.refresh_us.is_some()) {
            self.refresh_us = Some(now_us + self.dice.between(500_000, 8_000_000));
        }
    }

    /// Where it is reached.
    pub(crate) fn contact(&self) -> String {
        let transport = if self.stream { ";transport=tcp" } else { "" };
        format!("<sip:{}@{}{transport}>", self.user, self.at)
    }

    /// Takes its registration back.
    pub(crate) fn unregister(&mut self, now_us: u64, out: &mut Outgoing) {
        if self.claim.sent.is_empty() {
            return;
        }
        self.wants = false;
        self.send_register(now_us, out);
    }

    fn send_register(&mut self, now_us: u64, out: &mut Outgoing) {
        let cseq = self.claim.sent.len() as u32 + 1;
        let expires_s = if self.wants { self.expires_s } else { 0 };
        self.claim.sent.push((cseq, expires_s, now_us));
        self.refresh_us = Some(now_us + GIVE_UP_US);
        // A newer REGISTER takes the place of one under way (RFC 3261 10.2).
        for client in self.clients.values_mut() {
            if matches!(client.purpose, Purpose::Register { .. }) {
                client.resend_us = None;
            }
        }
        let contact = self.contact();
        let address = format!("<sip:{}@{DOMAIN}>", self.user);
        let lines = format!(
            "From: {address};tag=f{cseq}\r\nTo: {address}\r\nCall-ID: {}\r\n\
             CSeq: {cseq} REGISTER\r\nContact: {contact}\r\nExpires: {expires_s}\r\n\
             Supported: path\r\n",
            self.register_id
        );
        let uri = format!("sip:{DOMAIN}");
        let about = (uri.as_str(), lines.as_str(), "");
        self.begin(now_us, "REGISTER", about, ("", Purpose::Register { cseq }), out);
    }

    /// Sends a request of its own by way of its proxy, or by the first of `routes`.
    pub(crate) fn begin(
        &mut self,
        now_us: u64,
        method: &str,
        (uri, lines, routes): (&str, &str, &str),
        (body, purpose): (&str, Purpose),
        out: &mut Outgoing,
    ) -> String {
        let branch = self.next_branch();
        let bytes = self.request(method, (uri, &branch), lines, routes, body);
        let to = crate::text::address(routes.trim_start_matches("Route:").trim())
            .filter(|_| !routes.is_empty())
            .unwrap_or(self.proxy);
        out.push((to, bytes.clone()));
        let client = Client {
            purpose,
            bytes,
            to,
            began_us: now_us,
            resend_us: self.first_resend_us(now_us),
            interval_us: T1_US,
            provisional: false,
            finals: Vec::new(),
            lives: self.lives,
        };
        self.clients.insert(branch.clone(), client);
        branch
    }

    /// Streams lose nothing: nothing is sent again (RFC 3261 17.1.1.2, 17.1.2.2).
    pub(crate) fn first_resend_us(&self, now_us: u64) -> Option<u64> {
        (!self.stream).then_some(now_us + T1_US)
    }

    pub(crate) fn next_branch(&mut self) -> String {
        self.serial += 1;
        format!("z9hG4bK{}-{}", self.at.to_string().replace([':', '.'], "-"), self.serial)
    }

    /// May a router have forgotten a transaction that others still work at? Timer C is the longest
    /// that others wait.
    pub(crate) fn is_after_a_crash(&self, now_us: u64) -> bool {
        self.crashed_us.is_some_and(|at_us| now_us < at_us + LONGEST_US)
    }

    /// The text of a request.
    pub(crate) fn request(
        &self,
        method: &str,
        (uri, branch): (&str, &str),
        lines: &str,
        routes: &str,
        body: &str,
    ) -> Vec<u8> {
        let protocol = if self.stream { "TCP" } else { "UDP" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{protocol} {};branch={branch};rport\r\n\
             Max-Forwards: 70\r\n{routes}{lines}{}",
            self.at,
            with_body(body)
        )
        .into_bytes()
    }

    /// A datagram has come.
    pub(crate) fn receive(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Outgoing,
    ) -> Result<(), String> {
        let sip = Sip::read(bytes)?;
        match sip.status() {
            Some(status) => self.answered(now_us, status, &sip, out),
            None => {
                let vias = sip.all("Via").count() as u32;
                // RFC 3261 16.6 step 3: one less a hop.
                let left = sip.one("Max-Forwards").parse::<u32>().unwrap_or(0);
                if left + vias != 71 {
                    return Err(format!("Max-Forwards {left} behind {vias} Via: {}", sip.start));
                }
                self.serve(now_us, from, &sip, out)
            }
        }
    }

    fn answered(
        &mut self,
        now_us: u64,
        status: u16,
        sip: &Sip,
        out: &mut Outgoing,
    ) -> Result<(), String> {
        if sip.all("Via").count() != 1 {
            return Err(format!("another's Via in an answer: {}", sip.start));
        }
        self.note_answer(sip)?;
        let (mut branch, tag) = (sip.branch().to_owned(), sip.to_tag().to_owned());
        let (lives, method) = (self.lives, sip.method());
        if method == "CANCEL" {
            branch += " CANCEL"; // it has the branch of the INVITE (RFC 3261 9.1)
        }
        let Some(client) = self.clients.get_mut(&branch) else { return Ok(()) };
        if status < 200 {
            client.provisional = true;
            if method == "INVITE" {
                client.resend_us = None;
            } else {
                client.interval_us = T2_US;
            }
            return Ok(());
        }
        client.resend_us = None;
        let is_new = !client.finals.contains(&(status, tag.clone()));
        if is_new {
            client.finals.push((status, tag));
        }
        // One final answer a transaction (RFC 3261 17), but for 2xx of several phones; and what is
        // answered without state, is decided again when it comes again (8.2.7): a policy has
        // trapped, a store was down, a newer REGISTER has come first.
        let others = client.finals.iter().filter(|(status, _)| match method {
            "INVITE" => *status >= 300,
            _ => !matches!(status, 400 | 500 | 503),
        });
        if others.count() > 1 && client.lives == lives {
            return Err(format!("two final answers to {branch}: {:?}", client.finals));
        }
        match client.purpose.clone() {
            Purpose::Register { cseq } => self.registered(now_us, cseq, status),
            Purpose::Invite { call_id } => self.invite_answered(now_us, &call_id, status, sip, out),
            Purpose::Bye { call_id } => {
                if let Some(leg) = self.legs.get_mut(&call_id) {
                    leg.ended = Some(status);
                    leg.over_us = Some(now_us);
                }
            }
            Purpose::Cancel => {}
        }
        Ok(())
    }

    fn registered(&mut self, now_us: u64, cseq: u32, status: u16) {
        let newest = self.claim.sent.len() as u32;
        if status == 200 {
            let sent = self.claim.sent.iter().find(|(known, ..)| *known == cseq).copied();
            let known = self.claim.acknowledged.map_or(0, |(known, ..)| known);
            if let Some(sent) = sent.filter(|_| cseq > known) {
                self.claim.acknowledged = Some(sent);
            }
        }
        if cseq == newest && !self.rests {
            self.refresh_us = match status {
                200 => self.wants.then_some(now_us + self.expires_s * 500_000),
                _ => Some(now_us + self.dice.between(1_000_000, 8_000_000)),
            };
        }
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, now_us: u64, out: &mut Outgoing) {
        let mut gone = Vec::new();
        for (branch, client) in &mut self.clients {
            if now_us > client.began_us + REMEMBER_US {
                gone.push(branch.clone());
            }
            let Some(due) = client.resend_us.filter(|due| *due <= now_us) else { continue };
            if due >= client.began_us + GIVE_UP_US {
                client.resend_us = None;
                continue;
            }
            out.push((client.to, client.bytes.clone()));
            client.interval_us = match client.purpose {
                Purpose::Invite { .. } => client.interval_us * 2,
                _ => (client.interval_us * 2).min(T2_US),
            };
            client.resend_us = Some(now_us + client.interval_us);
        }
        for branch in gone {
            self.clients.remove(&branch);
        }
        if self.refresh_us.is_some_and(|due| due <= now_us) {
            self.send_register(now_us, out);
        }
        if self.keepalive_us.is_some_and(|due| due <= now_us) {
            self.keepalive_us = Some(now_us + KEEPALIVE_US);
            out.push((self.proxy, b"\r\n\r\n".to_vec()));
        }
        self.wake_calls(now_us, out);
    }

    /// When it has to be woken.
    pub(crate) fn next_us(&self) -> Option<u64> {
        let clients = self.clients.values().filter_map(|client| client.resend_us);
        let others = [self.refresh_us, self.keepalive_us].into_iter().flatten();
        clients.chain(others).chain(self.calls_due()).min()
    }

    /// It stops everything: no refresh, no keepalive.
    pub(crate) fn rest(&mut self) {
        (self.refresh_us, self.keepalive_us, self.rests) = (None, None, true);
    }
}

/// The end of a message: how long its body is, and the body.
pub(crate) fn with_body(body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}
