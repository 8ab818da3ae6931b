//! Registrar and home proxy of our domains: REGISTER is saved, calls to our users go to their
//! contacts, calls of our users to other domains go out, and nothing else is relayed.
//! What it decides, case by case, is in README.md; its tests are in tests.rs.

#[cfg(feature = "tests")]
mod tests;

use viaduct_guest::auth::Role;
use viaduct_guest::prelude::*;
use viaduct_guest::routing::Sides;
use viaduct_guest::{Field, METHODS};

const TABLE: &str = "location";

/// The policy.
struct Registrar;

#[viaduct::policy]
impl Policy for Registrar {
    fn on_request(request: &Request) -> Verdict {
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
            _ if request.preloaded_route() => from_caller(request),
            Method::Options if request.uri_is_router() => answer_options("path"),
            // Addressed to the router itself, which is no party to call (RFC 3261 8.2.1).
            _ if request.uri_is_router() => method_not_allowed("OPTIONS, REGISTER"),
            _ => from_caller(request),
        }
    }
}

fn from_caller(request: &Request) -> Verdict {
    if let Err(verdict) = caller_is_proven(request) {
        return verdict;
    }
    if request.preloaded_route() {
        return stay_and_relay(request);
    }
    if request.uri_is_ours() {
        return to_our_user(request);
    }
    to_elsewhere(request)
}

/// Who says to be a user of ours must show it (RFC 3261 22.3), where the router has users. Who does
/// not say so may call our users; more he may not.
fn caller_is_proven(request: &Request) -> Result<(), Verdict> {
    let never = request.method() == Method::Ack; // RFC 3261 22.1: nobody answers it
    if never || !request.from_is_ours() || is_exempt(request, &["register", "none"]) {
        return Ok(());
    }
    match auth::demand(Role::Proxy)? {
        Some(user) if !user.is_from => {
            Err(not_his(request, &request.get(Field::FromUri), &user.user))
        }
        _ => Ok(()),
    }
}

/// May it go without credentials, as a trusted peer answers for it? `trusted_auth` says what peers
/// are asked for; what it says that means nothing, asks for all.
fn is_exempt(request: &Request, exempting: &[&str]) -> bool {
    let asked = || settings::get_or("trusted_auth", "all");
    request.trusted() && exempting.contains(&asked().as_str())
}

fn not_his(request: &Request, address: &str, user: &str) -> Verdict {
    metrics::count("not_own_address");
    log::info!(
        "{} refused: {address} is not the address of user {user}",
        request.method_name()
    );
    reply(403, "Not Your Address")
}

/// Requests of a dialog follow the Route set the dialog was made with (RFC 3261 12.2).
fn within_dialog(request: &Request) -> Verdict {
    if request.loose_routed() {
        // A NOTIFY makes the dialog of its subscription (RFC 6665 4.4.1).
        if request.method() == Method::Notify {
            stay(request);
        }
        // A remote target may be an AoR of ours, and only the location service knows where that is
        // (RFC 3261 16.5).
        if request.uri_is_ours() && !request.uri_is_router() {
            return to_our_user(request);
        }
        return relay();
    }
    if request.uri_is_ours() {
        return reply(481, ""); // for us, and we are party to no dialog
    }
    reply(404, "Not Here")
}

/// RFC 3261 10.3; steps 2 and 5 to 8 are `save`.
fn register(request: &Request) -> Verdict {
    if !request.uri_is_ours() {
        return reply(403, "Not Our Domain"); // step 1; REGISTER is not forwarded
    }
    if !is_exempt(request, &["none"]) {
        match auth::demand(Role::Registrar) {
            Err(challenge) => return challenge, // step 3
            Ok(Some(user)) if !user.is_to => {
                return not_his(request, &request.get(Field::ToUri), &user.user); // step 4
            }
            Ok(_) => {}
        }
    }
    if !is_user(|| request.to_user()) {
        return reply(404, "");
    }
    // By way of an edge proxy it is the edge's Path that leads through the NAT.
    if request.first_hop() && nat::is_behind_nat() {
        nat::force_rport();
        nat::fix_register();
    }
    let flags = settings::get("save_flags");
    let saved = usrloc::save(
        TABLE,
        flags.as_deref().unwrap_or("path-lazy, path-received"),
    );
    match &saved {
        Ok(_) => {}
        Err(usrloc::SaveError::Refused(why)) => {
            log::info!(
                "REGISTER of {} refused: {} {}",
                request.to_user(),
                why.status,
                why.reason
            );
        }
        Err(usrloc::SaveError::BadFlags(text)) => log::error!("setting save_flags: {text}"),
    }
    saved.into()
}

/// To whoever is registered (RFC 3261 16.5).
fn to_our_user(request: &Request) -> Verdict {
    match usrloc::lookup(TABLE, "method-filtering") {
        Ok(_) => stay_and_relay(request),
        Err(usrloc::LookupError::NotFound) if is_user(|| request.request_user()) => reply(480, ""),
        Err(usrloc::LookupError::NotFound) => reply(404, ""),
        Err(usrloc::LookupError::MethodNotAllowed) => {
            let method = request.method_name();
            let others: Vec<&str> = METHODS.split(", ").filter(|name| *name != method).collect();
            method_not_allowed(&others.join(", "))
        }
        Err(usrloc::LookupError::NoSuchGruu) => reply(404, ""),
        Err(usrloc::LookupError::BadFlags(text)) => {
            log::error!("lookup: {text}");
            reply(500, "")
        }
    }
}

/// To other domains: for our users and trusted peers, else we were an open relay.
fn to_elsewhere(request: &Request) -> Verdict {
    if request.from_is_ours() || request.trusted() {
        return stay_and_relay(request);
    }
    metrics::count("relaying_refused");
    reply(403, "Relaying Denied")
}

fn stay_and_relay(request: &Request) -> Verdict {
    if request.method().forms_dialog() {
        stay(request);
    }
    relay()
}

/// In the way of the dialog; phones that only we can reach are reached by their flow.
fn stay(request: &Request) {
    let mut sides = Sides::CALLEE;
    if request.first_hop() && nat::is_behind_nat() {
        sides |= Sides::CALLER;
    }
    if !routing::record_route_flows(sides) {
        routing::record_route(); // no key to sign a flow with
    }
}

/// Without a list of users everybody who registers is one. The name is asked for only when needed.
fn is_user(name: impl FnOnce() -> String) -> bool {
    let users = settings::list("users");
    users.is_empty() || users.contains(&name())
}
