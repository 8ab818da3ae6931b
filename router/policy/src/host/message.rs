//! The message the phase is about.

use viaduct_engine::Run;
use viaduct_message::{NameAddr, Uri, ip_text};

use super::{edited, text};
use crate::bindings::policy::viaduct::policy::message::{Field, Host};
use crate::bindings::policy::viaduct::policy::types::EditError;
use crate::guest::Guest;

/// Most values `headers` gives; the scanner's own limit on lines is lower as a rule.
const MAX_HEADERS: usize = 256;

impl Host for Guest {
    fn get(&mut self, field: Field) -> wasmtime::Result<String> {
        Ok(get(self.call("message.get", &[])?, field))
    }

    fn header(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let run = self.call("message.header", &[&name])?;
        Ok(run.message().value_by_label(name.as_bytes()).map(text))
    }

    fn headers(&mut self, name: String) -> wasmtime::Result<Vec<String>> {
        let message = self.call("message.headers", &[&name])?.message();
        let same = message.lines_by_label(name.as_bytes());
        Ok(same.take(MAX_HEADERS).map(|line| text(line.value.of(message.bytes()))).collect())
    }

    fn body(&mut self) -> wasmtime::Result<Vec<u8>> {
        Ok(self.call("message.body", &[])?.message().body().to_vec())
    }

    fn is_our_domain(&mut self, host: String) -> wasmtime::Result<bool> {
        Ok(self.call("message.is-our-domain", &[&host])?.is_our_domain(&host))
    }

    fn add_header(
        &mut self,
        name: String,
        value: String,
    ) -> wasmtime::Result<Result<(), EditError>> {
        let run = self.call("message.add-header", &[&name, &value])?;
        let added = run.add_header(&name, &value);
        Ok(edited(self, "message.add-header", added))
    }

    fn remove_header(&mut self, name: String) -> wasmtime::Result<Result<u32, EditError>> {
        let removed = self.call("message.remove-header", &[&name])?.remove_header(&name);
        let removed = removed.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Ok(edited(self, "message.remove-header", removed))
    }

    fn set_request_uri(&mut self, uri: String) -> wasmtime::Result<Result<(), EditError>> {
        let set = self.call("message.set-request-uri", &[&uri])?.set_request_uri(&uri);
        Ok(edited(self, "message.set-request-uri", set))
    }
}

fn get(run: &Run, field: Field) -> String {
    let message = run.message();
    let from = || message.from().ok();
    let to = || message.to().ok();
    let bytes = match field {
        Field::Method => message.method_token(),
        Field::RequestUri => message.request_uri(),
        Field::RequestUser => user(message.parse_request_uri().ok()),
        Field::RequestHost => host(message.parse_request_uri().ok()),
        Field::FromUri => uri(from()),
        Field::FromUser => user(parsed(from())),
        Field::FromHost => host(parsed(from())),
        Field::FromTag => tag(from()),
        Field::ToUri => uri(to()),
        Field::ToUser => user(parsed(to())),
        Field::ToHost => host(parsed(to())),
        Field::ToTag => tag(to()),
        Field::CallId => message.call_id().unwrap_or_default(),
        Field::Cseq => message.value_by_label(b"CSeq").unwrap_or_default(),
        Field::UserAgent => message.value_by_label(b"User-Agent").unwrap_or_default(),
        Field::SourceIp => return ip_text(run.source().ip().to_canonical()),
        Field::LocalIp => return ip_text(run.flow().local.ip().to_canonical()),
        Field::Status if message.is_request() => return String::new(),
        Field::Status => return message.status().to_string(),
        Field::Reason => message.reason(),
    };
    text(bytes)
}

fn parsed(value: Option<NameAddr<'_>>) -> Option<Uri<'_>> {
    value.and_then(|value| value.parse_uri().ok())
}

fn uri(value: Option<NameAddr<'_>>) -> &[u8] {
    value.map(|value| value.uri).unwrap_or_default()
}

fn tag(value: Option<NameAddr<'_>>) -> &[u8] {
    value.and_then(NameAddr::tag).unwrap_or_default()
}

/// User part as written, still escaped.
fn user(uri: Option<Uri<'_>>) -> &[u8] {
    uri.and_then(|uri| uri.user).unwrap_or_default()
}

fn host(uri: Option<Uri<'_>>) -> &[u8] {
    uri.map(|uri| uri.host_text).unwrap_or_default()
}
