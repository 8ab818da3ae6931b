//! Outbound (edge) proxy between phones and their registrar. It adds Path to REGISTER, hands
//! whatever comes from the phones to one next hop, and brings what comes from inside to the phones,
//! through their NAT. What it decides, case by case, is in README.md; its tests are in tests.rs.
//!
//! Inside are the trusted peers of the router's configuration: the registrar belongs there.

#[cfg(feature = "tests")]
mod tests;

use viaduct_guest::Field;
use viaduct_guest::auth::Role;
use viaduct_guest::path::PathError;
use viaduct_guest::prelude::*;
use viaduct_guest::routing::Sides;

/// The policy.
struct OutboundProxy;

#[viaduct::policy]
impl Policy for OutboundProxy {
    fn on_request(request: &Request) -> Verdict {
        nat::force_rport();
        if request.in_dialog() {
            return within_dialog(request);
        }
        // Whoever may write the Route set of a new request sends it anywhere through us (R-G2).
        if request.preloaded_route() && !request.trusted() {
            metrics::count("preloaded_route_refused");
            return reply(403, "Route Not Allowed");
        }
        match request.method() {
            Method::Register => register(request),
            Method::Options if request.uri_is_router() => answer_options("path"),
            _ if from_inside(request) => to_phone(request),
            _ => from_phone(request),
        }
    }
}

/// From inside is what follows a Path of ours: the value said where the phone is (`received` or a
/// flow token, both signed), or a trusted peer sends it on to what is neither us nor a domain of
/// ours.
fn from_inside(request: &Request) -> bool {
    let routed = request.loose_routed() && !request.uri_is_ours();
    request.by_received() || (request.trusted() && (request.preloaded_route() || routed))
}

/// RFC 3327 5.2. Without Path no call would ever reach the phone.
fn register(request: &Request) -> Verdict {
    if let Err(verdict) = sender_is_proven(request, Role::Registrar) {
        return verdict;
    }
    let mode = match settings::get("path_mode").as_deref() {
        Some("always") | None => Mode::Always,
        Some("ua-supported") => Mode::UaSupported,
        Some("require") => Mode::Require,
        Some(other) => return misconfigured("path_mode", other),
    };
    let user = settings::get_or("path_user", "edge");
    let user = (!user.is_empty()).then_some(user.as_str());
    let added = if at_the_edge() {
        path::add_received(mode, user)
    } else {
        path::add(mode, user)
    };
    match added {
        Ok(()) | Err(PathError::NotSupported) => to_next_hop(request),
        Err(PathError::ExtensionRequired) => Verdict::Answered,
        Err(error) => {
            log::error!("Path not added: {}", error.name());
            reply(503, "Internal Path Error") // R-P7: the REGISTER is as it came, and stays here
        }
    }
}

/// Requests of a dialog follow the Route set the dialog was made with (RFC 3261 12.2).
fn within_dialog(request: &Request) -> Verdict {
    if !request.loose_routed() {
        return if request.uri_is_ours() {
            reply(481, "")
        } else {
            reply(404, "Not Here")
        };
    }
    // A NOTIFY makes the dialog of its subscription (RFC 6665 4.4.1).
    if request.method() == Method::Notify {
        let to_phone = request.by_received();
        stay(
            request,
            if to_phone {
                Sides::CALLEE
            } else {
                Sides::CALLER
            },
        );
    }
    relay()
}

fn to_phone(request: &Request) -> Verdict {
    stay(request, Sides::CALLEE);
    relay()
}

fn from_phone(request: &Request) -> Verdict {
    if let Err(verdict) = sender_is_proven(request, Role::Proxy) {
        return verdict;
    }
    stay(request, Sides::CALLER);
    to_next_hop(request)
}

/// Whatever comes from a phone is of a user of ours, who must show it (RFC 3261 22), where the
/// router has users, and speaks for himself. Trusted peers have asked already.
fn sender_is_proven(request: &Request, role: Role) -> Result<(), Verdict> {
    if request.trusted() || request.method() == Method::Ack {
        return Ok(()); // RFC 3261 22.1: nobody answers an ACK
    }
    let Some(user) = auth::demand(role)? else {
        return Ok(());
    };
    let own = match role {
        Role::Registrar => user.is_to,
        // Who hides (RFC 3323) writes a From of nobody.
        Role::Proxy => user.is_from || !request.from_is_ours(),
    };
    if own {
        return Ok(());
    }
    metrics::count("not_own_address");
    log::info!(
        "{} of {} to {} refused: the user is {}",
        request.method_name(),
        request.get(Field::FromUri),
        request.get(Field::ToUri),
        user.user
    );
    Err(reply(403, "Not Your Address"))
}

/// To the next hop and nowhere else, whatever the Request-URI says: no open relay. A trusted peer's
/// Route goes before.
fn to_next_hop(request: &Request) -> Verdict {
    if request.preloaded_route() {
        return relay();
    }
    let next_hop = settings::get_or("next_hop", "");
    match routing::set_destination(&next_hop) {
        Ok(()) => relay(),
        Err(_) => misconfigured("next_hop", &next_hop),
    }
}

/// In the way of the dialog; at the edge, requests to the phone's side go over the flow it has now.
fn stay(request: &Request, phone: Sides) {
    if !request.method().forms_dialog() {
        return;
    }
    if !(at_the_edge() && routing::record_route_flows(phone)) {
        routing::record_route();
    }
}

fn at_the_edge() -> bool {
    settings::flag_or("received", true)
}

fn misconfigured(setting: &str, value: &str) -> Verdict {
    log::error!("setting {setting} = \"{value}\" is of no use");
    reply(500, "")
}
