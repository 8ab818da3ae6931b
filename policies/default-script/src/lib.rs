//! What the default scripts of Kamailio and OpenSIPS do: README.md has them side by side.

#[cfg(feature = "tests")]
mod tests;

use viaduct_guest::METHODS;
use viaduct_guest::auth::Role;
use viaduct_guest::prelude::*;
use viaduct_guest::table::Guarded;

struct DefaultScript;

#[viaduct::policy]
impl Policy for DefaultScript {
    fn on_request(request: &Request) -> Verdict {
        match decide(request).unwrap_or_else(|refused| refused) {
            Verdict::Relay => with_media(request),
            other => other,
        }
    }

    fn on_reply(response: &Response) -> ReplyVerdict {
        // Where a phone behind NAT really is stands in its Contact, for the requests to come.
        if nat::test("private-contact").unwrap_or(false) {
            let _ = response.add_contact_alias();
        }
        if settings::get_or("media", "off") != "off" {
            // Of calls that are not relayed it leaves the answers alone.
            let _ = media::manage_nat();
        }
        ReplyVerdict::Forward
    }

    fn on_failure(request: &Request, status: u16) -> FailureVerdict {
        let failed = status == 408 || status >= 500;
        if failed && dispatcher::report(false).is_ok() && dispatcher::next().is_ok() {
            return FailureVerdict::Retry;
        }
        if [408, 480, 486].contains(&status) && to_voicemail(request, &vars::get("callee")) {
            return FailureVerdict::Retry;
        }
        FailureVerdict::Forward
    }
}

/// The error is a verdict as well: what a request is refused with.
fn decide(request: &Request) -> Result<Verdict, Verdict> {
    if floods(request) {
        return Ok(Verdict::Drop);
    }
    nat::force_rport();
    if request.in_dialog() {
        return Ok(within_dialog(request));
    }
    if request.preloaded_route() && !request.trusted() {
        return Err(reply(403, "Preload Route Denied"));
    }
    if request.method() == Method::Register {
        return register(request);
    }
    authenticate(request)?;
    if request.method().forms_dialog() {
        routing::record_route();
    }
    if !request.uri_is_ours() {
        return Ok(relay());
    }
    Ok(match request.method() {
        Method::Publish | Method::Subscribe => reply(404, "Not Here"),
        Method::Options if request.uri_is_router() => answer_options("path"),
        _ if request.uri_is_router() => reply(484, ""),
        _ => match request.request_user() {
            number if is_pstn(&number) => to_pstn(request),
            callee => to_user(request, callee),
        },
    })
}

/// Lets the media of a call go through the router: of all calls, or of those that need it because a
/// side is behind NAT. What follows in a dialog is relayed where the call is.
fn with_media(request: &Request) -> Verdict {
    let whose = settings::get_or("media", "off");
    let needed = || request.in_dialog() || is_nated(request);
    let wanted = whose == "always" || whose == "nat" && needed();
    if wanted && let Err(error) = media::manage_nat() {
        log::error!("media are not relayed: {error:?}");
    }
    relay()
}

fn is_nated(request: &Request) -> bool {
    nat::test("private-sdp, private-contact, diff-ip-src-via").unwrap_or(false)
        || request.uri_is_ours() && usrloc::is_behind_nat("location", &request.request_uri())
}

/// Too many requests a second from one address: it is not heard for a while.
fn floods(request: &Request) -> bool {
    if request.trusted() {
        return false;
    }
    let most = settings::number_or("hits_per_s", 32);
    let ban_s = settings::number_or("ban_s", 300);
    let guarded = table::guard("hits", "banned", most, 1, ban_s);
    if let Ok(Guarded::Over(hits)) = guarded {
        let source = request.source_ip();
        log::warn!("{source} is not heard for a while: {hits} requests in a second");
    }
    matches!(guarded, Ok(Guarded::Over(_) | Guarded::Banned))
}

fn within_dialog(request: &Request) -> Verdict {
    if !request.loose_routed() {
        return reply(404, "Not Here");
    }
    let _ = request.follow_alias();
    relay()
}

fn register(request: &Request) -> Result<Verdict, Verdict> {
    if auth::demand(Role::Registrar)?.is_some_and(|user| !user.is_to) {
        return Err(reply(403, "Not Your Address"));
    }
    if nat::test("private-contact, diff-ip-src-via").unwrap_or(false) && request.first_hop() {
        nat::fix_register();
    }
    Ok(usrloc::save("location", "path-lazy, path-received").into())
}

/// Our users show who they are; others may call our users, and nobody else.
fn authenticate(request: &Request) -> Result<(), Verdict> {
    if request.trusted() || request.method() == Method::Ack {
        return Ok(());
    }
    match request.from_is_ours() {
        true if auth::demand(Role::Proxy)?.is_some_and(|user| !user.is_from) => {
            Err(reply(403, "Not Your Address"))
        }
        false if !request.uri_is_ours() => Err(reply(403, "Not Relaying")),
        _ => Ok(()),
    }
}

fn is_pstn(callee: &str) -> bool {
    let prefix = settings::get_or("pstn_prefix", "+");
    let digits = callee.strip_prefix(&prefix).unwrap_or_default();
    digits.len() >= 3 && digits.bytes().all(|c| c.is_ascii_digit())
}

fn to_pstn(request: &Request) -> Verdict {
    if !request.from_is_ours() && !request.trusted() {
        return reply(403, "Not Allowed");
    }
    dispatcher::select("pstn", Algorithm::CallId)
        .map_or_else(|_| reply(503, "No Gateway"), |_| relay())
}

fn to_user(request: &Request, callee: String) -> Verdict {
    // The URI may be another one when the call has failed.
    let _ = settings::get("voicemail").map(|_| vars::set("callee", &callee));
    match usrloc::lookup("aliases", "").or_else(|_| usrloc::lookup("location", "m")) {
        Ok(_) => relay(),
        Err(usrloc::LookupError::MethodNotAllowed) => method_not_allowed(METHODS),
        Err(_) if to_voicemail(request, &Some(callee)) => relay(),
        Err(_) => reply(404, "Not Found"),
    }
}

fn to_voicemail(request: &Request, callee: &Option<String>) -> bool {
    let (Some(server), Some(callee)) = (settings::get("voicemail"), callee) else {
        return false;
    };
    let host = server.strip_prefix("sip:").unwrap_or(&server);
    let uri = format!("sip:{callee}@{host}");
    request.method() == Method::Invite && routing::add_target(&uri, 1000).is_ok()
}
