//! `policies/outbound-proxy`.

use viaduct_engine::auth::Role;
use viaduct_engine::run::{AddPathMode, PathRefusal};
use viaduct_engine::{Phase, Run, Verdict};
use viaduct_message::Method;

use super::Decide;
use super::answers::{OptionsAnswer, demand, not_own_address, reply};
use super::request::{forms_dialog, from_uri, level, method_name, to_uri};

pub(super) struct OutboundProxy {
    options: OptionsAnswer,
    next_hop: Box<str>,
    path_mode: AddPathMode,
    path_user: Option<Box<str>>,
    /// `received`: at the edge.
    at_the_edge: bool,
}

/// The side of the phone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Caller,
    Callee,
}

impl OutboundProxy {
    pub(super) fn new() -> OutboundProxy {
        OutboundProxy {
            options: OptionsAnswer::new(),
            next_hop: "sip:127.0.0.1:5070".into(),
            path_mode: AddPathMode::Always,
            path_user: Some("edge".into()),
            at_the_edge: true,
        }
    }

    fn register(&self, run: &mut Run) -> Verdict {
        if let Err(verdict) = sender_is_proven(run, Role::Registrar) {
            return verdict;
        }
        match run.add_path(self.path_mode, self.path_user.as_deref(), self.at_the_edge) {
            Ok(()) | Err(PathRefusal::NotSupported) => self.to_next_hop(run),
            Err(PathRefusal::ExtensionRequired) => Verdict::Answered,
            Err(error) => {
                run.log(level::ERROR, &format!("Path not added: {error}"));
                reply(503, "Internal Path Error")
            }
        }
    }

    fn within_dialog(&self, run: &mut Run) -> Verdict {
        let traits = run.traits();
        if !traits.loose_routed {
            return if traits.uri_is_ours { reply(481, "") } else { reply(404, "Not Here") };
        }
        if run.method() == Method::Notify {
            self.stay(run, if traits.by_received { Side::Callee } else { Side::Caller });
        }
        Verdict::Relay
    }

    fn to_phone(&self, run: &mut Run) -> Verdict {
        self.stay(run, Side::Callee);
        Verdict::Relay
    }

    fn sent_by_phone(&self, run: &mut Run) -> Verdict {
        if let Err(verdict) = sender_is_proven(run, Role::Proxy) {
            return verdict;
        }
        self.stay(run, Side::Caller);
        self.to_next_hop(run)
    }

    fn to_next_hop(&self, run: &mut Run) -> Verdict {
        if run.traits().preloaded_route {
            return Verdict::Relay;
        }
        match run.set_destination(&self.next_hop) {
            Ok(()) => Verdict::Relay,
            Err(_) => {
                let line = format!("setting next_hop = \"{}\" is of no use", self.next_hop);
                run.log(level::ERROR, &line);
                reply(500, "")
            }
        }
    }

    fn stay(&self, run: &mut Run, phone: Side) {
        if !forms_dialog(run.method()) {
            return;
        }
        let flows =
            |run: &mut Run| run.record_route_flows(phone == Side::Caller, phone == Side::Callee);
        if !(self.at_the_edge && flows(run)) {
            run.record_route();
        }
    }
}

impl Decide for OutboundProxy {
    fn phases(&self) -> &'static [Phase] {
        &[Phase::Request]
    }

    fn on_request(&self, run: &mut Run) -> Verdict {
        run.force_rport();
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
            Method::Options if traits.uri_is_router => self.options.give(run),
            _ if from_inside(run) => self.to_phone(run),
            _ => self.sent_by_phone(run),
        }
    }
}

fn from_inside(run: &Run) -> bool {
    let traits = run.traits();
    let routed = traits.loose_routed && !traits.uri_is_ours;
    traits.by_received || (traits.trusted && (traits.preloaded_route || routed))
}

fn sender_is_proven(run: &mut Run, role: Role) -> Result<(), Verdict> {
    if run.traits().trusted || run.method() == Method::Ack {
        return Ok(());
    }
    let Some(user) = demand(run, role)? else { return Ok(()) };
    let own = match role {
        Role::Registrar => user.is_to,
        Role::Proxy => user.is_from || !run.traits().from_is_ours,
    };
    if own {
        return Ok(());
    }
    let (method, from, to) = (method_name(run), from_uri(run), to_uri(run));
    let line = format!("{method} of {from} to {to} refused: the user is {}", user.user);
    Err(not_own_address(run, &line))
}
