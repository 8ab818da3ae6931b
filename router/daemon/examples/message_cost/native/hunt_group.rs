//! `policies/hunt-group`.

use viaduct_engine::registrar::{LookupFlags, SaveFlags};
use viaduct_engine::{Phase, Run, Verdict};
use viaduct_message::Method;

use super::Decide;
use super::answers::{OptionsAnswer, reply};
use super::request::{forms_dialog, level, request_host, request_user};

const TABLE: &str = "location";
const NEXT: &str = "next_member";

pub(super) struct HuntGroup {
    save: SaveFlags,
    lookup: LookupFlags,
    options: OptionsAnswer,
    group: Box<str>,
    members: Vec<Box<str>>,
    voicemail: Option<Box<str>>,
}

impl HuntGroup {
    pub(super) fn new() -> HuntGroup {
        HuntGroup {
            save: SaveFlags::parse("path-lazy").unwrap(),
            lookup: LookupFlags::parse("").unwrap(),
            options: OptionsAnswer::new(),
            group: "sales".into(),
            members: ["alice", "bob", "carol"].map(Box::from).to_vec(),
            voicemail: None,
        }
    }

    /// False: nobody is left to ring.
    fn ring_from(&self, first: usize, run: &mut Run) -> bool {
        let domain = request_host(run).into_owned();
        for (number, member) in self.members.iter().enumerate().skip(first) {
            if run.lookup(TABLE, &self.lookup, Some(&format!("{member}@{domain}"))).is_ok() {
                run.log(level::DEBUG, &format!("{member} rings"));
                return remember(number + 1, run);
            }
        }
        let voicemail = self.voicemail.as_ref().filter(|_| first <= self.members.len());
        let Some(voicemail) = voicemail else { return false };
        if run.add_target(voicemail, 1000).is_err() {
            let line = format!("setting voicemail = \"{voicemail}\" is no SIP URI");
            run.log(level::ERROR, &line);
            return false;
        }
        remember(self.members.len() + 1, run)
    }
}

impl Decide for HuntGroup {
    fn phases(&self) -> &'static [Phase] {
        &[Phase::Request, Phase::Failure]
    }

    fn on_request(&self, run: &mut Run) -> Verdict {
        let traits = run.traits();
        if traits.in_dialog {
            return if traits.loose_routed { Verdict::Relay } else { reply(481, "") };
        }
        if (traits.preloaded_route || !traits.uri_is_ours) && !traits.trusted {
            return reply(403, "Relaying Denied");
        }
        if run.method() == Method::Register {
            // Saved or refused: the answer is staged.
            let _ = run.save(TABLE, &self.save, None);
            return Verdict::Answered;
        }
        if traits.uri_is_router {
            return self.options.give(run);
        }
        if forms_dialog(run.method()) {
            run.record_route();
        }
        if run.method() == Method::Invite && *self.group == *request_user(run) {
            return if self.ring_from(0, run) { Verdict::Relay } else { reply(480, "") };
        }
        match run.lookup(TABLE, &self.lookup, None) {
            Ok(_) => Verdict::Relay,
            Err(_) if traits.uri_is_ours => reply(480, ""),
            Err(_) => Verdict::Relay,
        }
    }

    fn on_failure(&self, run: &mut Run) -> Verdict {
        let next = run.var(NEXT).and_then(|next| next.parse().ok());
        match next {
            Some(next) if run.status() < 600 && self.ring_from(next, run) => Verdict::Relay,
            _ => Verdict::Continue,
        }
    }
}

fn remember(next: usize, run: &mut Run) -> bool {
    run.set_var(NEXT, Some(&next.to_string())).is_ok()
}
