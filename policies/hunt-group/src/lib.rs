//! A hunt group: one number rings several people in turn, then voicemail. Everybody else is called
//! as usual. An example of two phases that work together: `on_request` rings the first,
//! `on_failure` the next. README.md says what it decides; its tests are in tests.rs.

#[cfg(feature = "tests")]
mod tests;

use viaduct_guest::prelude::*;

const TABLE: &str = "location";
/// Whose turn it is next: kept from phase to phase.
const NEXT: &str = "next_member";

/// The policy.
struct HuntGroup;

#[viaduct::policy]
impl Policy for HuntGroup {
    fn on_request(request: &Request) -> Verdict {
        if request.in_dialog() {
            return if request.loose_routed() {
                relay()
            } else {
                reply(481, "")
            };
        }
        if (request.preloaded_route() || !request.uri_is_ours()) && !request.trusted() {
            return reply(403, "Relaying Denied");
        }
        if request.method() == Method::Register {
            return usrloc::save(TABLE, "path-lazy").into();
        }
        if request.uri_is_router() {
            return answer_options("path");
        }
        if request.method().forms_dialog() {
            routing::record_route();
        }
        let hunts = request.method() == Method::Invite;
        if hunts && settings::get("group").is_some_and(|group| group == request.request_user()) {
            return if ring_from(0, request) {
                relay()
            } else {
                reply(480, "")
            };
        }
        match usrloc::lookup(TABLE, "") {
            Ok(_) => relay(),
            Err(_) if request.uri_is_ours() => reply(480, ""),
            Err(_) => relay(), // a trusted peer's call to elsewhere
        }
    }

    fn on_failure(request: &Request, status: u16) -> FailureVerdict {
        // Only calls to the group have a next one. 6xx speaks for everybody: nobody else shall ring
        // (RFC 3261 21.6). A caller who gives up is no failure: we are not asked.
        let next = vars::number(NEXT).and_then(|next| usize::try_from(next).ok());
        match next {
            Some(next) if status < 600 && ring_from(next, request) => FailureVerdict::Retry,
            _ => FailureVerdict::Forward,
        }
    }
}

/// Rings the first member from number `first` on who has a phone, else voicemail. False: nobody is
/// left.
fn ring_from(first: usize, request: &Request) -> bool {
    let members = settings::list("members");
    let domain = request.request_host();
    for (number, member) in members.iter().enumerate().skip(first) {
        if usrloc::lookup_as(TABLE, "", &format!("{member}@{domain}")).is_ok() {
            log::debug!("{member} rings");
            return remember(number.saturating_add(1));
        }
    }
    // Voicemail comes after the last member, once.
    let voicemail = settings::get("voicemail").filter(|_| first <= members.len());
    let Some(voicemail) = voicemail else {
        return false;
    };
    if routing::add_target(&voicemail, 1000).is_err() {
        log::error!("setting voicemail = \"{voicemail}\" is no SIP URI");
        return false;
    }
    remember(members.len().saturating_add(1))
}

fn remember(next: usize) -> bool {
    vars::set(NEXT, &next.to_string()).is_ok()
}
