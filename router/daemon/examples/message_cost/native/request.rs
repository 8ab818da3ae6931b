//! What policies read of a message.

use std::borrow::Cow;

use viaduct_engine::Run;
use viaduct_message::{Method, NameAddr};

/// Can it create a dialog, so that only a Record-Route keeps us in its way?
pub(super) fn forms_dialog(method: Method) -> bool {
    use Method::{Invite, Notify, Other, Refer, Subscribe};
    matches!(method, Invite | Subscribe | Notify | Refer | Other)
}

pub(super) fn request_user(run: &Run) -> Cow<'_, str> {
    text(run.message().parse_request_uri().ok().and_then(|uri| uri.user))
}

pub(super) fn request_host(run: &Run) -> Cow<'_, str> {
    text(run.message().parse_request_uri().ok().map(|uri| uri.host_text))
}

pub(super) fn from_uri(run: &Run) -> Cow<'_, str> {
    text(run.message().from().ok().map(|from| from.uri))
}

pub(super) fn to_uri(run: &Run) -> Cow<'_, str> {
    text(run.message().to().ok().map(|to| to.uri))
}

pub(super) fn to_user(run: &Run) -> Cow<'_, str> {
    text(to(run).and_then(|to| to.parse_uri().ok()).and_then(|uri| uri.user))
}

pub(super) fn to_host(run: &Run) -> Cow<'_, str> {
    text(to(run).and_then(|to| to.parse_uri().ok()).map(|uri| uri.host_text))
}

fn to(run: &Run) -> Option<NameAddr<'_>> {
    run.message().to().ok()
}

pub(super) fn method_name(run: &Run) -> Cow<'_, str> {
    text(Some(run.message().method_token()))
}

pub(super) fn source_ip(run: &Run) -> String {
    run.source().ip().to_canonical().to_string()
}

fn text(bytes: Option<&[u8]>) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.unwrap_or_default())
}

/// Levels of log lines.
pub(super) mod level {
    pub(in super::super) const ERROR: u8 = 0;
    pub(in super::super) const WARN: u8 = 1;
    pub(in super::super) const INFO: u8 = 2;
    pub(in super::super) const DEBUG: u8 = 3;
}
