//! Whole calls, the generator being caller and callee: INVITE, 180, 200, ACK, BYE, 200, all through
//! the server, following the route set it recorded.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use viaduct_tests::support::kamailio::DOMAIN;

use crate::drive::Load;
use crate::single::next_sequence;
use crate::wire::{Side, Wire, fill, header, headers, slot_and_sequence, status};
use crate::work::{AORS, OUTSTANDING};

/// Stands before slot and sequence number in our Call-IDs.
const MARKER: &[u8] = b"Call-ID: bench";

/// The calls of all slots.
pub(crate) struct Calls {
    caller: SocketAddr,
    callee: SocketAddr,
    slots: Vec<Call>,
    next_aor: usize,
}

#[derive(Clone, Default)]
struct Call {
    sequence: u32,
    aor: usize,
    stage: Stage,
    /// What the caller sent last.
    sent: String,
    /// The callee's 200 to the INVITE, once it has answered.
    answer: String,
    dialog: Dialog,
}

/// What requests within a dialog need; empty before there is one.
#[derive(Clone, Default)]
pub(crate) struct Dialog {
    /// To, with its tag.
    pub(crate) to: String,
    /// Route lines.
    pub(crate) routes: String,
    /// Remote target.
    pub(crate) target: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing under way.
    #[default]
    Idle,
    /// INVITE sent, no final response yet.
    Inviting,
    /// ACK sent, not at the callee yet.
    Acknowledging,
    /// BYE sent, no final response yet.
    Ending,
}

impl Calls {
    /// From `caller` to users registered at `callee`.
    pub(crate) fn new(caller: SocketAddr, callee: SocketAddr) -> Self {
        Self { caller, callee, slots: vec![Call::default(); OUTSTANDING], next_aor: 0 }
    }

    /// A request of the caller. `cseq` 1 is the INVITE and its ACK, 2 the BYE.
    fn request(&self, slot: usize, call: &Call, method: &str, cseq: u32) -> Result<String> {
        let (n, caller, aor) = (call.sequence, self.caller, call.aor);
        let early = format!("sip:c{aor}@{DOMAIN}");
        let (uri, to) = match call.dialog.to.as_str() {
            "" => (early.as_str(), format!("<{early}>")),
            to => (call.dialog.target.as_str(), to.to_owned()),
        };
        let body = if method == "INVITE" { SDP } else { "" };
        let mut text = String::with_capacity(1_024);
        write!(
            text,
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {caller};branch=z9hG4bKb{slot}-{n}{method};rport\r\n\
             Max-Forwards: 70\r\n\
             {routes}From: \"Load\" <sip:load{slot}@{DOMAIN}>;tag=f{n}\r\n\
             To: {to}\r\n\
             Call-ID: bench{slot}-{n}@generator.{DOMAIN}\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:load{slot}@{caller}>\r\n",
            routes = call.dialog.routes
        )?;
        finish(&mut text, body);
        Ok(text)
    }

    /// The callee gets a request.
    fn called(&mut self, slot: usize, request: &[u8], wire: &Wire) -> Result<()> {
        let call = self.slots.get(slot).context("no such slot")?;
        let (method, rest) = request.split_at(request.iter().take_while(|b| **b != b' ').count());
        let uri = format!(" sip:c{}@{}", call.aor, self.callee);
        ensure!(rest.starts_with(uri.as_bytes()), "not for this callee:\n{}", lossy(request));
        ensure!(
            header(request, "Max-Forwards:") == Some(b"69"),
            "Max-Forwards is not one less in\n{}",
            lossy(request)
        );
        match (method, call.stage) {
            (b"INVITE", Stage::Inviting) if call.answer.is_empty() => {
                ensure!(
                    header(request, "Record-Route:").is_some(),
                    "the server did not record-route"
                );
                let contact = format!("sip:c{}@{}", call.aor, self.callee);
                let ringing = response(request, "180 Ringing", call.sequence, &contact)?;
                let answer = response(request, "200 OK", call.sequence, &contact)?;
                wire.send(Side::Callee, ringing.as_bytes())?;
                wire.send(Side::Callee, answer.as_bytes())?;
                self.slots.get_mut(slot).context("no such slot")?.answer = answer;
            }
            (b"ACK", Stage::Acknowledging) => {
                let bye = self.request(slot, call, "BYE", 2)?;
                self.send(slot, bye, Stage::Ending, wire)?;
            }
            (b"BYE", Stage::Ending) => {
                let contact = format!("sip:c{}@{}", call.aor, self.callee);
                let ok = response(request, "200 OK", call.sequence, &contact)?;
                wire.send(Side::Callee, ok.as_bytes())?;
            }
            (b"INVITE" | b"ACK", _) => {} // a retransmission that crossed an answer
            _ => bail!("the callee did not expect at {:?}:\n{}", call.stage, lossy(request)),
        }
        Ok(())
    }

    /// The caller gets a response. `true` when the call is over.
    fn answered(&mut self, slot: usize, code: u16, response: &[u8], wire: &Wire) -> Result<bool> {
        let call = self.slots.get(slot).context("no such slot")?;
        let cseq = header(response, "CSeq:").unwrap_or_default();
        let vias = headers(response, "Via:").count();
        ensure!(vias == 1, "{vias} Via header fields reached the caller:\n{}", lossy(response));
        match (code, cseq, call.stage) {
            (100 | 180, b"1 INVITE", _) => Ok(false),
            (200, b"1 INVITE", Stage::Inviting) => {
                let mut call = call.clone();
                call.dialog.learn(response)?;
                let ack = self.request(slot, &call, "ACK", 1)?;
                *self.slots.get_mut(slot).context("no such slot")? = call;
                self.send(slot, ack, Stage::Acknowledging, wire)?;
                Ok(false)
            }
            (200, b"1 INVITE", _) => Ok(false), // once more: the ACK is under way
            (200, b"2 BYE", Stage::Ending) => {
                self.slots.get_mut(slot).context("no such slot")?.stage = Stage::Idle;
                Ok(true)
            }
            _ => bail!("the caller did not expect at {:?}:\n{}", call.stage, lossy(response)),
        }
    }

    fn send(&mut self, slot: usize, text: String, stage: Stage, wire: &Wire) -> Result<()> {
        wire.send(Side::Caller, text.as_bytes())?;
        let call = self.slots.get_mut(slot).context("no such slot")?;
        (call.sent, call.stage) = (text, stage);
        Ok(())
    }
}

/// The callee's response (RFC 3261 8.2.6), with `t` and a number for its tag.
pub(crate) fn response(request: &[u8], status: &str, tag: u32, contact: &str) -> Result<String> {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via: ", "Record-Route: ", "From: ", "To: ", "Call-ID: ", "CSeq: "] {
        for value in headers(request, name) {
            let value = std::str::from_utf8(value)?;
            text.push_str(name);
            text.push_str(value);
            if name == "To: " && !value.contains(";tag=") {
                write!(text, ";tag=t{tag}")?;
            }
            text.push_str("\r\n");
        }
    }
    let body = if status == "200 OK" && request.starts_with(b"INVITE ") { SDP } else { "" };
    write!(text, "Contact: <{contact}>\r\n")?;
    finish(&mut text, body);
    Ok(text)
}

/// Appends what speaks of the body, and the body.
fn finish(text: &mut String, body: &str) {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let rest = format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len());
    fill(text, rest.len());
    text.push_str(&rest);
}

impl Dialog {
    /// Route set, remote target and tags from a 200 to the INVITE (RFC 3261 12.1.2).
    pub(crate) fn learn(&mut self, response: &[u8]) -> Result<()> {
        let text = |value| std::str::from_utf8(value).context("not UTF-8");
        self.to = text(header(response, "To:").context("no To")?)?.to_owned();
        let contact = text(header(response, "Contact:").context("no Contact")?)?;
        let target = contact.trim_start_matches('<').split('>').next();
        self.target = target.context("an empty Contact")?.to_owned();
        let recorded: Vec<&[u8]> = headers(response, "Record-Route:").collect();
        ensure!(!recorded.is_empty(), "no Record-Route in the answer");
        self.routes.clear();
        // One header field line may hold several values; bench servers write one each or a list,
        // and no value of theirs has a comma inside.
        for line in recorded.into_iter().rev() {
            for value in text(line)?.rsplit(',') {
                write!(self.routes, "Route: {}\r\n", value.trim())?;
            }
        }
        Ok(())
    }
}

impl Load for Calls {
    fn begin(&mut self, slot: usize, wire: &Wire) -> Result<()> {
        let aor = self.next_aor % AORS;
        self.next_aor += 1;
        let call = Call { sequence: next_sequence(), aor, ..Call::default() };
        let invite = self.request(slot, &call, "INVITE", 1)?;
        *self.slots.get_mut(slot).context("no such slot")? = call;
        self.send(slot, invite, Stage::Inviting, wire)
    }

    fn receive(&mut self, side: Side, datagram: &[u8], wire: &Wire) -> Result<Option<usize>> {
        let Some((slot, sequence)) = slot_and_sequence(datagram, MARKER) else {
            return Ok(None);
        };
        let call = self.slots.get(slot).context("a message of nobody's call")?;
        if call.sequence != sequence || call.stage == Stage::Idle {
            return Ok(None); // a late retransmission of an earlier call
        }
        match (side, status(datagram)) {
            (Side::Callee, None) => self.called(slot, datagram, wire).map(|()| None),
            (Side::Caller, Some(code)) => {
                Ok(self.answered(slot, code, datagram, wire)?.then_some(slot))
            }
            _ => bail!("at the {side:?} there arrived\n{}", lossy(datagram)),
        }
    }

    fn resend(&mut self, slot: usize, wire: &Wire) -> Result<()> {
        let call = self.slots.get(slot).context("no such slot")?;
        wire.send(Side::Caller, call.sent.as_bytes())?;
        if call.stage == Stage::Inviting && !call.answer.is_empty() {
            // A callee repeats its 200 until it is acknowledged (RFC 3261 13.3.1.4).
            wire.send(Side::Callee, call.answer.as_bytes())?;
        }
        Ok(())
    }
}

fn lossy(message: &[u8]) -> String {
    String::from_utf8_lossy(message).into_owned()
}

/// What INVITEs and their answers carry.
pub(crate) const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 40000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_set_is_the_record_route_backwards() {
        let mut call = Dialog::default();
        let answer = b"SIP/2.0 200 OK\r\nRecord-Route: <sip:a;lr>, <sip:b;lr>\r\n\
            Record-Route: <sip:c;lr>\r\nTo: <sip:x@y>;tag=9\r\nContact: <sip:x@h:5;p=1>;q=1\r\n\r\n";
        call.learn(answer).unwrap();
        assert_eq!(call.routes, "Route: <sip:c;lr>\r\nRoute: <sip:b;lr>\r\nRoute: <sip:a;lr>\r\n");
        assert_eq!(call.target, "sip:x@h:5;p=1");
        assert_eq!(call.to, "<sip:x@y>;tag=9");
    }

    #[test]
    fn an_answer_that_nobody_record_routed_is_an_error() {
        let answer = b"SIP/2.0 200 OK\r\nTo: <sip:x@y>;tag=9\r\nContact: <sip:x@h>\r\n\r\n";
        assert!(Dialog::default().learn(answer).is_err());
    }
}
