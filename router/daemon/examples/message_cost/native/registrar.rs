//! `policies/registrar`.

use viaduct_engine::auth::Role;
use viaduct_engine::registrar::{LookupFault, LookupFlags, SaveFlags};
use viaduct_engine::{Phase, Run, Verdict};
use viaduct_message::Method;

use super::Decide;
use super::answers::{METHODS, OptionsAnswer, demand, method_not_allowed, not_own_address, reply};
use super::request::{forms_dialog, from_uri, level, method_name, request_user, to_uri, to_user};

const TABLE: &str = "location";

pub(super) struct Registrar {
    save: SaveFlags,
    lookup: LookupFlags,
    options: OptionsAnswer,
    trusted_auth: Box<str>,
    users: Vec<Box<str>>,
}

impl Registrar {
    pub(super) fn new() -> Registrar {
        Registrar {
            save: SaveFlags::parse("path-lazy, path-received").unwrap(),
            lookup: LookupFlags::parse("method-filtering").unwrap(),
            options: OptionsAnswer::new(),
            trusted_auth: "all".into(),
            users: Vec::new(),
        }
    }

    fn sent_by_caller(&self, run: &mut Run) -> Verdict {
        if let Err(verdict) = self.caller_is_proven(run) {
            return verdict;
        }
        let traits = run.traits();
        if traits.preloaded_route {
            return stay_and_relay(run);
        }
        if traits.uri_is_ours {
            return self.to_our_user(run);
        }
        to_elsewhere(run)
    }

    fn caller_is_proven(&self, run: &mut Run) -> Result<(), Verdict> {
        let never = run.method() == Method::Ack;
        if never || !run.traits().from_is_ours || self.is_exempt(run, &["register", "none"]) {
            return Ok(());
        }
        match demand(run, Role::Proxy)? {
            Some(user) if !user.is_from => {
                let address = from_uri(run).into_owned();
                Err(not_his(run, &address, &user.user))
            }
            _ => Ok(()),
        }
    }

    fn is_exempt(&self, run: &Run, exempting: &[&str]) -> bool {
        run.traits().trusted && exempting.contains(&&*self.trusted_auth)
    }

    fn within_dialog(&self, run: &mut Run) -> Verdict {
        let traits = run.traits();
        if traits.loose_routed {
            if run.method() == Method::Notify {
                stay(run);
            }
            if traits.uri_is_ours && !traits.uri_is_router {
                return self.to_our_user(run);
            }
            return Verdict::Relay;
        }
        if traits.uri_is_ours { reply(481, "") } else { reply(404, "Not Here") }
    }

    fn register(&self, run: &mut Run) -> Verdict {
        if !run.traits().uri_is_ours {
            return reply(403, "Not Our Domain");
        }
        if !self.is_exempt(run, &["none"]) {
            match demand(run, Role::Registrar) {
                Err(challenge) => return challenge,
                Ok(Some(user)) if !user.is_to => {
                    let address = to_uri(run).into_owned();
                    return not_his(run, &address, &user.user);
                }
                Ok(_) => {}
            }
        }
        if !self.is_user(&to_user(run)) {
            return reply(404, "");
        }
        if run.traits().first_hop && run.is_behind_nat() {
            run.force_rport();
            run.fix_nat_register();
        }
        if let Err(why) = run.save(TABLE, &self.save, None) {
            let (user, status, reason) = (to_user(run), why.status, why.reason);
            let line = format!("REGISTER of {user} refused: {status} {reason}");
            run.log(level::INFO, &line);
        }
        Verdict::Answered
    }

    fn to_our_user(&self, run: &mut Run) -> Verdict {
        match run.lookup(TABLE, &self.lookup, None) {
            Ok(_) => stay_and_relay(run),
            Err(LookupFault::NotFound) if self.is_user(&request_user(run)) => reply(480, ""),
            Err(LookupFault::NotFound | LookupFault::Gruu) => reply(404, ""),
            Err(LookupFault::Method) => {
                let method = method_name(run);
                let others: Vec<&str> =
                    METHODS.split(", ").filter(|name| *name != method).collect();
                method_not_allowed(run, &others.join(", "))
            }
        }
    }

    fn is_user(&self, name: &str) -> bool {
        self.users.is_empty() || self.users.iter().any(|user| **user == *name)
    }
}

impl Decide for Registrar {
    fn phases(&self) -> &'static [Phase] {
        &[Phase::Request]
    }

    fn on_request(&self, run: &mut Run) -> Verdict {
        let traits = run.traits();
        if traits.in_dialog {
            return self.within_dialog(run);
        }
        if traits.preloaded_route && !traits.trusted {
            run.count("preloaded_route_refused", 1);
            return reply(403, "Route Not Allowed");
        }
        match run.method() {
            Method::Register => self.register(run),
            _ if traits.preloaded_route => self.sent_by_caller(run),
            Method::Options if traits.uri_is_router => self.options.give(run),
            _ if traits.uri_is_router => method_not_allowed(run, "OPTIONS, REGISTER"),
            _ => self.sent_by_caller(run),
        }
    }
}

fn not_his(run: &mut Run, address: &str, user: &str) -> Verdict {
    let method = method_name(run);
    let line = format!("{method} refused: {address} is not the address of user {user}");
    not_own_address(run, &line)
}

fn to_elsewhere(run: &mut Run) -> Verdict {
    if run.traits().from_is_ours || run.traits().trusted {
        return stay_and_relay(run);
    }
    run.count("relaying_refused", 1);
    reply(403, "Relaying Denied")
}

fn stay_and_relay(run: &mut Run) -> Verdict {
    if forms_dialog(run.method()) {
        stay(run);
    }
    Verdict::Relay
}

fn stay(run: &mut Run) {
    let caller = run.traits().first_hop && run.is_behind_nat();
    if !run.record_route_flows(caller, true) {
        run.record_route();
    }
}
