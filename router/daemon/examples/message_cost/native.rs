//! What `policies/registrar` decides, in Rust beside the engine: what the sandbox costs is the
//! difference.

use viaduct_engine::auth::Role;
use viaduct_engine::registrar::{LookupFlags, SaveFlags};
use viaduct_engine::run::ReplyLines;
use viaduct_engine::{Phase, Policy, PolicyFailure, Run, Verdict};
use viaduct_message::Method;

pub(crate) struct Native {
    save: SaveFlags,
    lookup: LookupFlags,
    options: ReplyLines,
}

impl Native {
    pub(crate) fn new() -> Native {
        let options = "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, REFER, \
                       MESSAGE, INFO, PRACK, UPDATE, PUBLISH\nAccept: application/sdp\nSupported: path";
        Native {
            save: SaveFlags::parse("path-lazy, path-received").unwrap(),
            lookup: LookupFlags::parse("method-filtering").unwrap(),
            options: ReplyLines::parse(options).unwrap(),
        }
    }

    fn on_request(&self, run: &mut Run) -> Verdict {
        let traits = run.traits();
        if traits.in_dialog {
            if traits.loose_routed && traits.uri_is_ours && !traits.uri_is_router {
                return self.to_our_user(run);
            }
            return if traits.loose_routed { Verdict::Relay } else { refuse(481) };
        }
        if traits.preloaded_route && !traits.trusted {
            return refuse(403);
        }
        match run.method() {
            Method::Register => self.register(run),
            Method::Options if traits.uri_is_router => {
                run.add_reply_headers(&self.options).unwrap();
                refuse(200)
            }
            _ if traits.uri_is_router => refuse(405),
            _ => self.to_party(run),
        }
    }

    fn register(&self, run: &mut Run) -> Verdict {
        let traits = run.traits();
        if !traits.uri_is_ours {
            return refuse(403);
        }
        assert!(run.check_auth(Role::Registrar, None).is_err(), "nobody has a password here");
        if traits.first_hop && run.is_behind_nat() {
            run.force_rport();
            run.fix_nat_register();
        }
        let _ = run.save("location", &self.save, None);
        Verdict::Answered
    }

    fn to_party(&self, run: &mut Run) -> Verdict {
        let traits = run.traits();
        if traits.from_is_ours {
            assert!(run.check_auth(Role::Proxy, None).is_err(), "nobody has a password here");
        }
        if traits.uri_is_ours {
            return self.to_our_user(run);
        }
        if traits.from_is_ours || traits.trusted { self.stay(run) } else { refuse(403) }
    }

    fn to_our_user(&self, run: &mut Run) -> Verdict {
        match run.lookup("location", &self.lookup, None) {
            Ok(_) => self.stay(run),
            Err(_) => refuse(480),
        }
    }

    fn stay(&self, run: &mut Run) -> Verdict {
        let dialogs = [Method::Invite, Method::Subscribe, Method::Refer, Method::Notify];
        if dialogs.contains(&run.method()) {
            let caller = run.traits().first_hop && run.is_behind_nat();
            if !run.record_route_flows(caller, true) {
                run.record_route();
            }
        }
        Verdict::Relay
    }
}

fn refuse(status: u16) -> Verdict {
    Verdict::Reply { status, reason: "".into() }
}

impl Policy for Native {
    type Version = ();

    fn current(&mut self) {}

    fn wants(&self, (): &(), phase: Phase) -> bool {
        phase == Phase::Request
    }

    fn decide(
        &mut self,
        (): &(),
        _: Phase,
        mut run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        let verdict = self.on_request(&mut run);
        (run, Ok(verdict))
    }
}
