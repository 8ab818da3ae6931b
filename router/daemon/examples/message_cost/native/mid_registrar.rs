//! `policies/mid-registrar`.

use viaduct_engine::registrar::{BindingFilter, LookupFault, LookupFlags, SaveFlags};
use viaduct_engine::run::AddPathMode;
use viaduct_engine::{Phase, Run, Verdict};
use viaduct_message::Method;

use super::Decide;
use super::answers::{OptionsAnswer, reply};
use super::request::{level, to_host, to_user};

const TABLE: &str = "location";

pub(super) struct MidRegistrar {
    options: OptionsAnswer,
    save: SaveFlags,
    /// Of a phone that was restarted.
    save_anew: SaveFlags,
    lookup: LookupFlags,
    next_hop: Box<str>,
    nat_tests: Box<str>,
    one_call_id: bool,
}

/// The side of the phone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Caller,
    Callee,
}

impl MidRegistrar {
    pub(super) fn new() -> MidRegistrar {
        let anew = "path-lazy, max-contacts=1, force-registration";
        MidRegistrar {
            options: OptionsAnswer::new(),
            save: SaveFlags::parse("path-lazy").unwrap(),
            save_anew: SaveFlags::parse(anew).unwrap(),
            lookup: LookupFlags::parse("method-filtering, sort-by-latency").unwrap(),
            next_hop: "sip:127.0.0.1:5070".into(),
            nat_tests: "diff-ip-src-via, diff-port-src-via, private-contact".into(),
            one_call_id: false,
        }
    }

    fn register(&self, run: &mut Run) -> Verdict {
        match run.add_path(AddPathMode::Always, None, true) {
            Ok(()) => self.to_next_hop(run, |_| Verdict::Relay),
            Err(error) => {
                run.log(level::ERROR, &format!("Path not added: {error}"));
                reply(503, "Internal Path Error")
            }
        }
    }

    fn keep(&self, run: &mut Run) {
        run.fix_nat_register();
        let restarted = self.one_call_id && was_restarted(run);
        let flags = if restarted { &self.save_anew } else { &self.save };
        if let Err(error) = run.save(TABLE, flags, None) {
            let line = format!("not saved: {} {}", error.status, error.reason);
            run.log(level::ERROR, &line);
        }
    }

    fn to_our_user(&self, run: &mut Run) -> Verdict {
        match run.lookup(TABLE, &self.lookup, None) {
            Ok(_) => self.stay(run, Side::Callee),
            Err(LookupFault::Gruu) => reply(404, ""),
            Err(_) => reply(480, ""),
        }
    }

    fn to_next_hop(&self, run: &mut Run, then: impl FnOnce(&mut Run) -> Verdict) -> Verdict {
        match run.set_destination(&self.next_hop) {
            Ok(()) => then(run),
            Err(_) => {
                let line = format!("setting next_hop = \"{}\" is of no use", self.next_hop);
                run.log(level::ERROR, &line);
                reply(500, "")
            }
        }
    }

    fn stay(&self, run: &mut Run, phone: Side) -> Verdict {
        let behind = match run.nat_test(&self.nat_tests) {
            Ok(behind) => behind,
            Err(unknown) => {
                let line = format!("setting nat_tests: there is no test `{}`", unknown.0);
                run.log(level::ERROR, &line);
                true
            }
        };
        let wanted = behind || phone == Side::Callee;
        let flows =
            |run: &mut Run| run.record_route_flows(phone == Side::Caller, phone == Side::Callee);
        if !(wanted && flows(run)) {
            run.record_route();
        }
        Verdict::Relay
    }
}

impl Decide for MidRegistrar {
    fn phases(&self) -> &'static [Phase] {
        &[Phase::Request, Phase::Reply]
    }

    fn on_request(&self, run: &mut Run) -> Verdict {
        run.force_rport();
        let traits = run.traits();
        if traits.in_dialog {
            return if traits.loose_routed { Verdict::Relay } else { reply(481, "") };
        }
        if traits.preloaded_route && !traits.trusted {
            return reply(403, "Route Not Allowed");
        }
        match run.method() {
            Method::Register => self.register(run),
            Method::Options if traits.uri_is_router => self.options.give(run),
            _ if traits.by_received => self.stay(run, Side::Callee),
            _ if traits.trusted && traits.uri_is_ours => self.to_our_user(run),
            _ => self.to_next_hop(run, |run| self.stay(run, Side::Caller)),
        }
    }

    fn on_reply(&self, run: &mut Run) -> Verdict {
        if run.method() == Method::Register && (200..300).contains(&run.status()) {
            self.keep(run);
        }
        Verdict::Continue
    }
}

/// Are there contacts, and none of this Call-ID?
fn was_restarted(run: &Run) -> bool {
    let aor = format!("{}@{}", to_user(run), to_host(run));
    let call_id = run.message().call_id().ok();
    let of_this_call = BindingFilter { call_id, ..BindingFilter::default() };
    let now_ms = run.now().unix_ms;
    run.bindings(TABLE, &aor).is_some_and(|set| {
        let mut live = set.live(now_ms).peekable();
        live.peek().is_some() && !live.any(|binding| of_this_call.fits(binding))
    })
}
