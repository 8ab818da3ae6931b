//! Registrar in front of a registrar. Phones register through it with the one behind, and it keeps
//! what that one has granted: calls from inside to our users reach them without asking it.
//! What it decides, case by case, is in README.md; its tests are in tests.rs.

#[cfg(feature = "tests")]
mod tests;

use viaduct_guest::prelude::*;
use viaduct_guest::routing::Sides;

const TABLE: &str = "location";

/// The policy.
struct MidRegistrar;

#[viaduct::policy]
impl Policy for MidRegistrar {
    fn on_request(request: &Request) -> Verdict {
        nat::force_rport();
        if request.in_dialog() {
            return if request.loose_routed() {
                relay()
            } else {
                reply(481, "")
            };
        }
        if request.preloaded_route() && !request.trusted() {
            return reply(403, "Route Not Allowed");
        }
        match request.method() {
            Method::Register => register(),
            Method::Options if request.uri_is_router() => answer_options("path"),
            _ if request.by_received() => stay(Sides::CALLEE),
            _ if request.trusted() && request.uri_is_ours() => to_our_user(),
            _ => to_next_hop(|| stay(Sides::CALLER)),
        }
    }

    fn on_reply(response: &Response) -> ReplyVerdict {
        if response.method() == Method::Register && (200..300).contains(&response.status()) {
            keep(response);
        }
        ReplyVerdict::Forward
    }
}

/// To the registrar behind us, with a way back to the phone.
fn register() -> Verdict {
    match path::add_received(Mode::Always, None) {
        Ok(()) => to_next_hop(relay),
        Err(error) => {
            log::error!("Path not added: {}", error.name());
            reply(503, "Internal Path Error")
        }
    }
}

/// What the registrar behind us has granted is bound here too, before the phone hears of it.
fn keep(response: &Response) {
    nat::fix_register();
    if let Err(error) = usrloc::save(TABLE, save_flags(response)) {
        log::error!("not saved: {error:?}");
    }
}

/// A phone that was restarted comes back with another Call-ID, and leaves its old contact behind
/// unless the new one pushes it out.
fn save_flags(response: &Response) -> &'static str {
    if settings::flag_or("one_call_id", false) && was_restarted(response) {
        "path-lazy, max-contacts=1, force-registration"
    } else {
        "path-lazy"
    }
}

/// Are there contacts, and none of this Call-ID?
fn was_restarted(response: &Response) -> bool {
    let aor = aor(response);
    let of_this_call = usrloc::Filter {
        call_id: Some(response.call_id()),
        ..usrloc::any()
    };
    !usrloc::bindings(TABLE, &aor).is_empty()
        && !usrloc::is_registered_where(TABLE, &aor, &of_this_call)
}

fn aor(response: &Response) -> String {
    [&response.to_user(), "@", &response.to_host()].concat()
}

fn to_our_user() -> Verdict {
    match usrloc::lookup(TABLE, "method-filtering, sort-by-latency") {
        Ok(_) => stay(Sides::CALLEE),
        Err(usrloc::LookupError::NoSuchGruu) => reply(404, ""),
        Err(_) => reply(480, ""),
    }
}

fn to_next_hop(then: impl FnOnce() -> Verdict) -> Verdict {
    let next_hop = settings::get_or("next_hop", "");
    match routing::set_destination(&next_hop) {
        Ok(()) => then(),
        Err(_) => {
            log::error!("setting next_hop = \"{next_hop}\" is of no use");
            reply(500, "")
        }
    }
}

/// In the way of the dialog, with the flow of the phone's side where it is behind NAT.
fn stay(phone: Sides) -> Verdict {
    let tests = settings::get_or("nat_tests", "");
    let behind = match nat::test(&tests) {
        Ok(behind) => behind,
        Err(name) => {
            log::error!("setting nat_tests: there is no test `{name}`");
            true
        }
    };
    let wanted = behind || phone == Sides::CALLEE;
    if !(wanted && routing::record_route_flows(phone)) {
        routing::record_route();
    }
    relay()
}
