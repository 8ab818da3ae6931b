//! `policies/default-script`.

use viaduct_engine::auth::Role;
use viaduct_engine::media::Action;
use viaduct_engine::registrar::{LookupFault, LookupFlags, SaveFlags};
use viaduct_engine::run::{EditFault, Guarded, MediaRefusal, SelectBy};
use viaduct_engine::{Phase, Run, Verdict};
use viaduct_message::Method;

use super::Decide;
use super::answers::{METHODS, OptionsAnswer, demand, method_not_allowed, reply};
use super::request::{forms_dialog, level, request_user, source_ip};
use crate::alias;

/// Destinations tried for one request.
const MOST: usize = 16;

pub(super) struct DefaultScript {
    save: SaveFlags,
    aliases: LookupFlags,
    location: LookupFlags,
    options: OptionsAnswer,
    hits_per_s: u32,
    ban_s: u32,
    pstn_prefix: Box<str>,
    media: Box<str>,
    voicemail: Option<Box<str>>,
}

impl DefaultScript {
    pub(super) fn new() -> DefaultScript {
        DefaultScript {
            save: SaveFlags::parse("path-lazy, path-received").unwrap(),
            aliases: LookupFlags::parse("").unwrap(),
            location: LookupFlags::parse("m").unwrap(),
            options: OptionsAnswer::new(),
            hits_per_s: 32,
            ban_s: 300,
            pstn_prefix: "+".into(),
            media: "off".into(),
            voicemail: None,
        }
    }

    fn decide(&self, run: &mut Run) -> Result<Verdict, Verdict> {
        if self.floods(run) {
            return Ok(Verdict::Drop);
        }
        run.force_rport();
        let traits = run.traits();
        if traits.in_dialog {
            return Ok(within_dialog(run));
        }
        if traits.preloaded_route && !traits.trusted {
            return Err(reply(403, "Preload Route Denied"));
        }
        if run.method() == Method::Register {
            return self.register(run);
        }
        authenticate(run)?;
        if forms_dialog(run.method()) {
            run.record_route();
        }
        if !traits.uri_is_ours {
            return Ok(Verdict::Relay);
        }
        Ok(match run.method() {
            Method::Publish | Method::Subscribe => reply(404, "Not Here"),
            Method::Options if traits.uri_is_router => self.options.give(run),
            _ if traits.uri_is_router => reply(484, ""),
            _ if self.is_pstn(&request_user(run)) => to_pstn(run),
            _ => self.to_user(run),
        })
    }

    fn with_media(&self, run: &mut Run) -> Verdict {
        let wanted = match &*self.media {
            "always" => true,
            "nat" => run.traits().in_dialog || is_nated(run),
            _ => false,
        };
        if wanted && let Err(error) = manage_nat(run) {
            run.log(level::ERROR, &format!("media are not relayed: {error:?}"));
        }
        Verdict::Relay
    }

    fn floods(&self, run: &mut Run) -> bool {
        if run.traits().trusted {
            return false;
        }
        let guarded = run.table_guard(("hits", "banned"), self.hits_per_s, 1, self.ban_s);
        if let Ok(Guarded::Over(hits)) = guarded {
            let source = source_ip(run);
            let line = format!("{source} is not heard for a while: {hits} requests in a second");
            run.log(level::WARN, &line);
        }
        matches!(guarded, Ok(Guarded::Over(_) | Guarded::Banned))
    }

    fn register(&self, run: &mut Run) -> Result<Verdict, Verdict> {
        if demand(run, Role::Registrar)?.is_some_and(|user| !user.is_to) {
            return Err(reply(403, "Not Your Address"));
        }
        let behind = run.nat_test("private-contact, diff-ip-src-via").unwrap_or(false);
        if behind && run.traits().first_hop {
            run.fix_nat_register();
        }
        // Saved or refused: the answer is staged.
        let _ = run.save("location", &self.save, None);
        Ok(Verdict::Answered)
    }

    fn is_pstn(&self, callee: &str) -> bool {
        let digits = callee.strip_prefix(&*self.pstn_prefix).unwrap_or_default();
        digits.len() >= 3 && digits.bytes().all(|c| c.is_ascii_digit())
    }

    fn to_user(&self, run: &mut Run) -> Verdict {
        let callee = request_user(run).into_owned();
        if self.voicemail.is_some() {
            let _ = run.set_var("callee", Some(&callee));
        }
        let found = run.lookup("aliases", &self.aliases, None);
        match found.or_else(|_| run.lookup("location", &self.location, None)) {
            Ok(_) => Verdict::Relay,
            Err(LookupFault::Method) => method_not_allowed(run, METHODS),
            Err(_) if self.to_voicemail(run, Some(&callee)) => Verdict::Relay,
            Err(_) => reply(404, "Not Found"),
        }
    }

    fn to_voicemail(&self, run: &mut Run, callee: Option<&str>) -> bool {
        let (Some(server), Some(callee)) = (&self.voicemail, callee) else { return false };
        let host = server.strip_prefix("sip:").unwrap_or(server);
        let uri = format!("sip:{callee}@{host}");
        run.method() == Method::Invite && run.add_target(&uri, 1000).is_ok()
    }
}

impl Decide for DefaultScript {
    fn phases(&self) -> &'static [Phase] {
        &[Phase::Request, Phase::Reply, Phase::Failure]
    }

    fn on_request(&self, run: &mut Run) -> Verdict {
        match self.decide(run).unwrap_or_else(|refused| refused) {
            Verdict::Relay => self.with_media(run),
            other => other,
        }
    }

    fn on_reply(&self, run: &mut Run) -> Verdict {
        if run.nat_test("private-contact").unwrap_or(false) {
            let _ = add_contact_alias(run);
        }
        if &*self.media != "off" {
            let _ = manage_nat(run);
        }
        Verdict::Continue
    }

    fn on_failure(&self, run: &mut Run) -> Verdict {
        let status = run.status();
        let failed = status == 408 || status >= 500;
        if failed && run.dispatch_report(false).is_ok() && run.dispatch_next().is_ok() {
            return Verdict::Relay;
        }
        let callee = run.var("callee").map(str::to_owned);
        if [408, 480, 486].contains(&status) && self.to_voicemail(run, callee.as_deref()) {
            return Verdict::Relay;
        }
        Verdict::Continue
    }
}

fn within_dialog(run: &mut Run) -> Verdict {
    if !run.traits().loose_routed {
        return reply(404, "Not Here");
    }
    let _ = follow_alias(run);
    Verdict::Relay
}

fn authenticate(run: &mut Run) -> Result<(), Verdict> {
    let traits = run.traits();
    if traits.trusted || run.method() == Method::Ack {
        return Ok(());
    }
    match traits.from_is_ours {
        true if demand(run, Role::Proxy)?.is_some_and(|user| !user.is_from) => {
            Err(reply(403, "Not Your Address"))
        }
        false if !traits.uri_is_ours => Err(reply(403, "Not Relaying")),
        _ => Ok(()),
    }
}

fn to_pstn(run: &mut Run) -> Verdict {
    if !run.traits().from_is_ours && !run.traits().trusted {
        return reply(403, "Not Allowed");
    }
    run.dispatch("pstn", SelectBy::CallId, MOST)
        .map_or_else(|_| reply(503, "No Gateway"), |_| Verdict::Relay)
}

fn is_nated(run: &Run) -> bool {
    run.nat_test("private-sdp, private-contact, diff-ip-src-via").unwrap_or(false)
        || run.traits().uri_is_ours && is_called_behind_nat(run)
}

fn is_called_behind_nat(run: &Run) -> bool {
    let uri = String::from_utf8_lossy(run.message().request_uri());
    let set = run.bindings("location", &uri);
    set.is_some_and(|set| set.live(run.now().unix_ms).any(|binding| binding.fields().nat))
}

fn manage_nat(run: &mut Run) -> Result<(), MediaRefusal> {
    let is_private = run.nat_test("private-sdp").unwrap_or(false);
    run.media(Action::Manage, if is_private { "SIP-source-address" } else { "" })
}

fn follow_alias(run: &mut Run) -> Result<bool, EditFault> {
    let uri = String::from_utf8_lossy(run.message().request_uri());
    let Some((uri, hop)) = alias::take(&uri) else { return Ok(false) };
    run.set_request_uri(&uri)?;
    run.set_destination(&hop)?;
    Ok(true)
}

fn add_contact_alias(run: &mut Run) -> Result<bool, EditFault> {
    let Some(value) = contact_with_alias(run) else { return Ok(false) };
    run.remove_header("Contact")?;
    run.add_header("Contact", &value)?;
    Ok(true)
}

fn contact_with_alias(run: &Run) -> Option<String> {
    let message = run.message();
    let mut contacts = message.lines_by_label(b"Contact");
    let (Some(contact), None) = (contacts.next(), contacts.next()) else { return None };
    let contact = String::from_utf8_lossy(contact.value.of(message.bytes()));
    alias::add(&contact, &source_ip(run), run.source().port(), run.transport())
}
