//! What a phone does in calls, as caller and as callee (RFC 3261 13, 14, 15).

use std::net::SocketAddr;

use crate::phone::{GIVE_UP_US, Outgoing, Phone, Purpose, T1_US, T2_US, with_body};
use crate::router::DOMAIN;
use crate::sdp::{description, told};
use crate::text::{Sip, address, inner, param};

/// A call this phone has made.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    /// Branch and bytes of the INVITE.
    branch: String,
    invite: Vec<u8>,
    /// Request lines the ACK and the CANCEL share with it.
    uri: String,
    /// When it gives up waiting for an answer.
    cancel_us: Option<u64>,
    cancelled: bool,
    /// Dialogs by the callee's tag, with the ACK that is sent again for each 2xx that comes again.
    acks: Vec<(String, SocketAddr, Vec<u8>)>,
    /// When it says BYE, and how.
    bye: Option<(u64, Dialog)>,
    /// Final status of the INVITE.
    pub(crate) status: Option<u16>,
    /// Final status of the BYE, whoever sent it.
    pub(crate) ended: Option<u16>,
    /// When it began, and when it had its final answer, or that of its BYE.
    pub(crate) began_us: u64,
    pub(crate) over_us: Option<u64>,
    /// Crashes of routers before it, and when it was answered.
    pub(crate) lives: [u64; 2],
    pub(crate) media: Media,
}

/// What a phone knows of the media of a call.
#[derive(Clone, Debug)]
pub(crate) struct Media {
    /// Where it takes its own.
    pub(crate) at: SocketAddr,
    /// Where it was told to send: more than one place, if it was told so.
    pub(crate) told: Vec<SocketAddr>,
    /// Packets of its that have come to the other phone, and since when both know where to send.
    pub(crate) heard: u32,
    pub(crate) since_us: Option<u64>,
}

impl Media {
    fn at(at: SocketAddr) -> Media {
        Media { at, told: Vec::new(), heard: 0, since_us: None }
    }

    fn note(&mut self, body: &str) -> Result<(), String> {
        if !body.is_empty() {
            let at = told(body)?;
            if !self.told.contains(&at) {
                self.told.push(at);
            }
        }
        Ok(())
    }
}

/// What a request within a dialog needs.
#[derive(Clone, Debug)]
struct Dialog {
    uri: String,
    routes: String,
    lines: String,
}

/// A request this phone was sent.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    request: Sip,
    from: SocketAddr,
    tag: String,
    /// What it answered last; sent again for each retransmission.
    answer: Vec<u8>,
    /// Final status, once there is one.
    status: Option<u16>,
    /// When it answered finally.
    finished_us: Option<u64>,
    /// When it answers finally, and with what.
    decide: Option<(u64, u16)>,
    /// When the final answer to an INVITE is sent again, how long after the last, and until when.
    resend: Option<(u64, u64, u64)>,
    acknowledged: bool,
    /// BYE has come.
    over: bool,
    pub(crate) media: Media,
}

impl Served {
    /// Call-ID of an INVITE that was taken.
    pub(crate) fn taken(&self) -> Option<&str> {
        let taken = self.status == Some(200) && self.request.method() == "INVITE";
        taken.then(|| self.request.one("Call-ID"))
    }
}

impl Leg {
    /// Dialogs that were made of it: one, or one for each phone that has answered.
    pub(crate) fn dialogs(&self) -> usize {
        self.acks.len()
    }

    /// It was answered, and has not said BYE yet.
    pub(crate) fn talks(&self) -> bool {
        self.bye.is_some()
    }
}

impl Phone {
    /// Calls a user.
    pub(crate) fn call(
        &mut self,
        now_us: u64,
        user: &str,
        patience_us: u64,
        out: &mut Outgoing,
    ) -> String {
        let call_id = format!("call-{}-{}", self.at, self.legs.len());
        let uri = format!("sip:{user}@{DOMAIN}");
        let lines = format!(
            "From: <sip:{me}@{DOMAIN}>;tag=c\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\n\
             CSeq: 1 INVITE\r\nContact: {contact}\r\n",
            me = self.user,
            contact = self.contact()
        );
        let media = Media::at(SocketAddr::new(self.at.ip(), 10_000 + 2 * self.legs.len() as u16));
        // Now and then the callee is to make the offer (RFC 3261 13.2.1).
        let offers = self.media && (self.polite || !self.dice.permille(200));
        let body = if offers { description(media.at) } else { String::new() };
        let purpose = Purpose::Invite { call_id: call_id.clone() };
        let branch = self.begin(now_us, "INVITE", (&uri, &lines, ""), (&body, purpose), out);
        let invite = self.clients.get(&branch).map(|c| c.bytes.clone()).unwrap_or_default();
        let leg = Leg {
            branch,
            invite,
            uri,
            cancel_us: Some(now_us + patience_us),
            cancelled: false,
            acks: Vec::new(),
            bye: None,
            status: None,
            ended: None,
            began_us: now_us,
            over_us: None,
            lives: [self.lives; 2],
            media,
        };
        self.legs.insert(call_id.clone(), leg);
        call_id
    }

    /// An answer to an INVITE, not a provisional one.
    pub(crate) fn invite_answered(
        &mut self,
        now_us: u64,
        call_id: &str,
        status: u16,
        sip: &Sip,
        out: &mut Outgoing,
    ) {
        let proxy = self.proxy;
        let Some(leg) = self.legs.get(call_id) else { return };
        if status >= 300 {
            // RFC 3261 17.1.1.3: the ACK of a transaction has its branch and its Request-URI.
            let lines = shared_lines(&leg.invite, sip.one("To"), "ACK");
            let ack = self.request("ACK", (&leg.uri, &leg.branch), &lines, "", "");
            out.push((proxy, ack));
            if let Some(leg) = self.legs.get_mut(call_id) {
                leg.status.get_or_insert(status);
                leg.over_us.get_or_insert(now_us);
                leg.cancel_us = None;
            }
            return;
        }
        let tag = sip.to_tag().to_owned();
        if let Some((_, to, ack)) = leg.acks.iter().find(|(known, ..)| *known == tag) {
            return out.push((*to, ack.clone()));
        }
        let (is_first, cancelled) = (leg.acks.is_empty(), leg.cancelled);
        let routes: Vec<String> = sip.record_routes().into_iter().rev().collect();
        let uri = inner(sip.one("Contact")).to_owned();
        let next = routes.first().map_or(uri.as_str(), String::as_str);
        let to = address(next).unwrap_or(proxy);
        let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let lines = shared_lines(&leg.invite, sip.one("To"), "ACK");
        // What it has not offered, it answers (RFC 3264 4, RFC 3261 13.2.2.4).
        let answers = self.media && leg.invite.ends_with(b"\r\n\r\n");
        let body = if answers { description(leg.media.at) } else { String::new() };
        let branch = self.next_branch();
        let ack = self.request("ACK", (&uri, &branch), &lines, &routes, &body);
        out.push((to, ack.clone()));
        let talk_us = match is_first && !cancelled {
            true => self.dice.between(500_000, 15_000_000),
            false => 0,
        };
        let lives = self.lives;
        let Some(leg) = self.legs.get_mut(call_id) else { return };
        leg.acks.push((tag, to, ack));
        leg.lives[1] = lives;
        let lines = shared_lines(&leg.invite, sip.one("To"), "BYE").replace("CSeq: 1", "CSeq: 2");
        let dialog = Dialog { uri, routes, lines };
        if is_first {
            (leg.status, leg.cancel_us) = (Some(status), None);
            leg.bye = Some((now_us + talk_us, dialog));
        } else {
            // Another phone has answered too (RFC 3261 13.2.2.4): it is hung up at once.
            self.say_bye(now_us, call_id, &dialog, out);
        }
    }

    fn say_bye(&mut self, now_us: u64, call_id: &str, dialog: &Dialog, out: &mut Outgoing) {
        let purpose = Purpose::Bye { call_id: call_id.to_owned() };
        let about = (dialog.uri.as_str(), dialog.lines.as_str(), dialog.routes.as_str());
        self.begin(now_us, "BYE", about, ("", purpose), out);
    }

    /// An answer to an INVITE may say where media go; in one call always to the same place. Once
    /// BYE is said there are none, and a 2xx that comes again is passed on as it is.
    pub(crate) fn note_answer(&mut self, sip: &Sip) -> Result<(), String> {
        let leg = self.legs.get_mut(sip.one("Call-ID")).filter(|_| sip.method() == "INVITE");
        let leg = leg.filter(|leg| leg.status.is_none() || leg.talks());
        leg.map_or(Ok(()), |leg| leg.media.note(&sip.body))
    }

    /// A request has come; `Err` where it should not have.
    pub(crate) fn serve(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        sip: &Sip,
        out: &mut Outgoing,
    ) -> Result<(), String> {
        let branch = sip.branch().to_owned();
        match sip.method() {
            "ACK" => return self.acknowledged(now_us, &branch, sip),
            "CANCEL" => return self.cancelled(now_us, from, &branch, sip, out),
            _ => {}
        }
        if let Some(served) = self.served.get(&branch) {
            out.push((from, served.answer.clone()));
            return Ok(());
        }
        let media = Media::at(SocketAddr::new(self.at.ip(), 12_000 + 2 * self.served.len() as u16));
        let mut served = Served {
            request: sip.clone(),
            from,
            tag: format!("s{}-{}", self.served.len(), self.at.ip()),
            answer: Vec::new(),
            status: None,
            finished_us: None,
            decide: None,
            resend: None,
            acknowledged: false,
            over: false,
            media,
        };
        match sip.method() {
            "INVITE" => {
                let named = inner(sip.uri()).trim_start_matches("sip:").split('@').next();
                if named != Some(self.user.as_str()) {
                    return Err(format!("a call for somebody else: {}", sip.start));
                }
                served.media.note(&sip.body)?;
                served.answer = self.answer(&served, 180, "Ringing");
                out.push((from, served.answer.clone()));
                served.decide = self.decision(now_us);
            }
            "BYE" => {
                let known = self.hang_up(sip);
                let (status, reason) = if known { (200, "OK") } else { (481, "No Such Call") };
                (served.status, served.answer) =
                    (Some(status), self.answer(&served, status, reason));
                out.push((from, served.answer.clone()));
                if !known {
                    return Err(format!("a BYE of no call of ours: {}", sip.summary()));
                }
            }
            _ => return Err(format!("nobody sends this: {}", sip.summary())),
        }
        self.served.insert(branch, served);
        Ok(())
    }

    /// When it answers finally, and with what.
    fn decision(&mut self, now_us: u64) -> Option<(u64, u16)> {
        if self.polite {
            return Some((now_us + 300_000, 200));
        }
        let after_us = self.dice.between(0, 8_000_000);
        match self.dice.below(100) {
            0..=64 => Some((now_us + after_us, 200)),
            65..=79 => Some((now_us + after_us, 486)),
            80..=84 => Some((now_us + after_us, 603)),
            _ => Some((now_us + 60_000_000, 480)),
        }
    }

    fn answer(&self, served: &Served, status: u16, reason: &str) -> Vec<u8> {
        let mut text = format!("SIP/2.0 {status} {reason}\r\n");
        let dialog = status > 100 && served.request.method() == "INVITE";
        for (name, value) in &served.request.headers {
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                "via" | "from" | "call-id" | "cseq" => text += &format!("{name}: {value}\r\n"),
                "record-route" if dialog => text += &format!("{name}: {value}\r\n"),
                "to" if param(value, "tag").is_some() => text += &format!("To: {value}\r\n"),
                "to" => text += &format!("To: {value};tag={}\r\n", served.tag),
                _ => {}
            }
        }
        if dialog {
            text += &format!("Contact: {}\r\n", self.contact());
        }
        // Every third rings with media of its own, where it can answer already.
        let early = status == 180 && !served.request.body.is_empty();
        let early = early && served.media.at.port().is_multiple_of(3);
        let tells = self.media && dialog && (early || (200..300).contains(&status));
        let body = if tells { description(served.media.at) } else { String::new() };
        (text + &with_body(&body)).into_bytes()
    }

    fn acknowledged(&mut self, now_us: u64, branch: &str, sip: &Sip) -> Result<(), String> {
        let (cseq, _) = sip.cseq();
        let fits = |known: &str, served: &Served| {
            let same = served.request.method() == "INVITE"
                && served.request.one("Call-ID") == sip.one("Call-ID")
                && served.request.cseq().0 == cseq;
            match served.status {
                Some(200..=299) => same, // a transaction of its own (RFC 3261 13.2.2.4)
                Some(_) => same && known == branch,
                None => false,
            }
        };
        let mut found = false;
        for (known, served) in &mut self.served {
            if fits(known, served) {
                if !served.over {
                    served.media.note(&sip.body)?;
                }
                (served.acknowledged, served.resend, found) = (true, None, true);
            }
        }
        // A proxy whose timer H has ended takes the ACK for that of a 2xx, and passes it on.
        let given_up = |served: &Served| {
            served.request.one("Call-ID") == sip.one("Call-ID")
                && served.finished_us.is_some_and(|at_us| now_us >= at_us + GIVE_UP_US)
        };
        if found || self.is_after_a_crash(now_us) || self.served.values().any(given_up) {
            return Ok(());
        }
        Err(format!("an ACK of nothing answered: {}", sip.summary()))
    }

    fn cancelled(
        &mut self,
        now_us: u64,
        from: SocketAddr,
        branch: &str,
        sip: &Sip,
        out: &mut Outgoing,
    ) -> Result<(), String> {
        let Some(mut served) = self.served.remove(branch) else {
            // A proxy that has forgotten the INVITE passes a CANCEL on (RFC 3261 16.10): after a
            // crash, or when the final answer was lost for longer than anybody repeats it.
            let call_id = sip.one("Call-ID");
            let known = self.served.values().any(|s| s.request.one("Call-ID") == call_id);
            if known || self.is_after_a_crash(now_us) {
                return Ok(());
            }
            return Err(format!("a CANCEL of nothing: {}", sip.summary()));
        };
        let about = Served { request: sip.clone(), ..served.clone() };
        out.push((from, self.answer(&about, 200, "OK")));
        if served.status.is_none() {
            self.finish(now_us, &mut served, 487, out);
        }
        self.served.insert(branch.to_owned(), served);
        Ok(())
    }

    /// The final answer to an INVITE; sent again until it is acknowledged.
    fn finish(&self, now_us: u64, served: &mut Served, status: u16, out: &mut Outgoing) {
        let reason = if status == 200 { "OK" } else { "No" };
        served.answer = self.answer(served, status, reason);
        (served.status, served.decide) = (Some(status), None);
        served.finished_us = Some(now_us);
        // RFC 3261 13.3.1.4, 17.2.1: over a stream a 2xx alone.
        let again = status == 200 || !self.stream;
        served.resend = again.then_some((now_us + T1_US, T1_US, now_us + GIVE_UP_US));
        out.push((served.from, served.answer.clone()));
    }

    /// A BYE for a call: is it one of ours?
    fn hang_up(&mut self, sip: &Sip) -> bool {
        let call_id = sip.one("Call-ID");
        if let Some(leg) = self.legs.get_mut(call_id) {
            (leg.bye, leg.ended) = (None, Some(200));
            return true;
        }
        let answered = |served: &Served| {
            served.request.method() == "INVITE"
                && served.request.one("Call-ID") == call_id
                && served.status == Some(200)
        };
        let mut known = false;
        for served in self.served.values_mut().filter(|served| answered(served)) {
            (served.over, known) = (true, true);
        }
        known
    }

    /// Does what is due in calls.
    pub(crate) fn wake_calls(&mut self, now_us: u64, out: &mut Outgoing) {
        let branches: Vec<String> = self.served.keys().cloned().collect();
        for branch in branches {
            let Some(mut served) = self.served.remove(&branch) else { continue };
            if let Some((_, status)) = served.decide.filter(|(due, _)| *due <= now_us) {
                self.finish(now_us, &mut served, status, out);
            }
            if let Some((due, wait_us, until_us)) = served.resend.filter(|(due, ..)| *due <= now_us)
            {
                let wait_us = (wait_us * 2).min(T2_US);
                served.resend = (due < until_us).then_some((now_us + wait_us, wait_us, until_us));
                if served.resend.is_some() {
                    out.push((served.from, served.answer.clone()));
                }
            }
            self.served.insert(branch, served);
        }
        let calls: Vec<String> = self.legs.keys().cloned().collect();
        for call_id in calls {
            self.wake_leg(now_us, &call_id, out);
        }
    }

    fn wake_leg(&mut self, now_us: u64, call_id: &str, out: &mut Outgoing) {
        let Some(leg) = self.legs.get_mut(call_id) else { return };
        if let Some((_, dialog)) = leg.bye.take_if(|(due, _)| *due <= now_us) {
            return self.say_bye(now_us, call_id, &dialog, out);
        }
        if leg.cancel_us.is_none_or(|due| due > now_us) {
            return;
        }
        leg.cancel_us = None;
        let Some(client) = self.clients.get(&leg.branch).filter(|_| leg.status.is_none()) else {
            return;
        };
        if !client.provisional {
            // RFC 3261 9.1: not before something has come back.
            let waits = now_us < client.began_us + GIVE_UP_US;
            leg.cancel_us = waits.then_some(now_us + 1_000_000);
            return;
        }
        leg.cancelled = true;
        let (branch, uri, to) = (leg.branch.clone(), leg.uri.clone(), self.proxy);
        let lines = shared_lines(&leg.invite, "", "CANCEL");
        let bytes = self.request("CANCEL", (&uri, &branch), &lines, "", "");
        out.push((to, bytes.clone()));
        let invite = self.clients.get(&branch).cloned();
        if let Some(mut client) = invite {
            // Answers to a CANCEL have the branch of the INVITE; it is only sent again.
            (client.purpose, client.bytes, client.provisional) = (Purpose::Cancel, bytes, false);
            (client.resend_us, client.interval_us) = (self.first_resend_us(now_us), T1_US);
            (client.began_us, client.finals) = (now_us, Vec::new());
            self.clients.insert(format!("{branch} CANCEL"), client);
        }
    }

    /// When something is due in calls.
    pub(crate) fn calls_due(&self) -> impl Iterator<Item = u64> {
        let served = self.served.values().flat_map(|served| {
            [served.decide.map(|(due, _)| due), served.resend.map(|(due, ..)| due)]
        });
        let legs = self.legs.values();
        let legs = legs.flat_map(|leg| [leg.cancel_us, leg.bye.as_ref().map(|(due, _)| *due)]);
        served.chain(legs).flatten()
    }
}

/// From, To, Call-ID and CSeq of a request that belongs to an INVITE. `to` is used where it is not
/// empty.
fn shared_lines(invite: &[u8], to: &str, method: &str) -> String {
    let Ok(sip) = Sip::read(invite) else { return String::new() };
    let to = if to.is_empty() { sip.one("To") } else { to };
    format!(
        "From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n",
        sip.one("From"),
        sip.one("Call-ID"),
        sip.cseq().0
    )
}
