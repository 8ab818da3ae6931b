//! Edits a policy may stage: headers, Request-URI, targets, next hop, variables.

use viaduct_message::{HeaderName, Uri};

use super::usrloc::MAX_TARGETS;
use super::{EditFault, HeaderEdit, Run};
use crate::registrar::Target;

/// Header edits of one run.
const MAX_EDITS: usize = 64;
/// Bytes of all header edits of one run, and of all variables of a transaction.
const MAX_BYTES: usize = 16 * 1024;
/// Longest URI of a target, a next hop, a Request-URI: longer ones fit no datagram with the rest.
const MAX_URI_BYTES: usize = 4096;
/// Variables of one transaction.
const MAX_VARS: usize = 32;

/// Header lines for a reply that have been checked, so that a host can keep those a policy sends
/// with each answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyLines(Box<[u8]>);

impl ReplyLines {
    /// Checks `Name: value` a line; all must be legal.
    pub fn parse(lines: &str) -> Result<ReplyLines, EditFault> {
        let mut checked = Vec::with_capacity(lines.len().saturating_add(16));
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(EditFault::Syntax)?;
            push_header(name, value.trim(), &mut checked)?;
        }
        Ok(ReplyLines(checked.into()))
    }
}

impl Run {
    /// Stages a header of the forwarded message.
    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), EditFault> {
        check_header(name, value)?;
        self.room_for(1, name.len().saturating_add(value.len()))?;
        let (name, value) = (name.as_bytes().into(), value.as_bytes().into());
        self.effects.edits.push(HeaderEdit::Add { name, value });
        Ok(())
    }

    /// Stages the removal of a header from the forwarded message; how many lines it has.
    pub fn remove_header(&mut self, name: &str) -> Result<usize, EditFault> {
        check_header(name, "")?;
        self.room_for(1, name.len())?;
        let count = self.message().lines_by_label(name.as_bytes()).count();
        self.effects.edits.push(HeaderEdit::Remove { name: name.as_bytes().into() });
        Ok(count)
    }

    /// Stages a header of the reply the policy will make.
    pub fn add_reply_header(&mut self, name: &str, value: &str) -> Result<(), EditFault> {
        push_header(name, value, &mut self.effects.reply_headers)
    }

    /// Stages several headers of the reply.
    pub fn add_reply_headers(&mut self, lines: &ReplyLines) -> Result<(), EditFault> {
        let headers = &mut self.effects.reply_headers;
        if headers.len().saturating_add(lines.0.len()) > MAX_BYTES {
            return Err(EditFault::TooLarge);
        }
        headers.extend_from_slice(&lines.0);
        Ok(())
    }

    /// Stages a new Request-URI.
    pub fn set_request_uri(&mut self, uri: &str) -> Result<(), EditFault> {
        check_uri(uri)?;
        self.effects.request_uri = Some(uri.as_bytes().into());
        Ok(())
    }

    /// Stages the next hop of all targets that name none: a SIP URI.
    pub fn set_destination(&mut self, uri: &str) -> Result<(), EditFault> {
        check_sip_uri(uri)?;
        self.effects.destination = Some(uri.as_bytes().into());
        Ok(())
    }

    /// Stages a target; `q_milli` above 1000 counts as 1000.
    pub fn add_target(&mut self, uri: &str, q_milli: u16) -> Result<(), EditFault> {
        check_sip_uri(uri)?;
        if self.effects.targets.len() >= MAX_TARGETS {
            return Err(EditFault::TooLarge);
        }
        self.effects.targets.push(Target {
            uri: uri.as_bytes().into(),
            q_milli: q_milli.min(1000),
            ..Target::default()
        });
        Ok(())
    }

    /// Sets a variable of the transaction; `None` removes it. At most 32 variables, 16 KiB in all.
    /// Names that begin with `viaduct.` are the router's.
    pub fn set_var(&mut self, name: &str, value: Option<&str>) -> Result<(), EditFault> {
        if name.starts_with(super::dispatcher::RESERVED) {
            return Err(EditFault::Forbidden);
        }
        self.put_var(name, value)
    }

    /// [`Run::set_var`], of the router's own variables too.
    pub fn put_var(&mut self, name: &str, value: Option<&str>) -> Result<(), EditFault> {
        let Some(value) = value else {
            self.vars.retain(|(n, _)| &**n != name);
            return Ok(());
        };
        let others = self.vars.iter().filter(|(n, _)| &**n != name);
        let used = others.fold(0usize, |sum, (n, v)| sum.saturating_add(n.len() + v.len()));
        let new = name.len().saturating_add(value.len());
        if used.saturating_add(new) > MAX_BYTES {
            return Err(EditFault::TooLarge);
        }
        if let Some((_, v)) = self.vars.iter_mut().find(|(n, _)| &**n == name) {
            *v = value.into();
        } else if self.vars.len() < MAX_VARS {
            self.vars.push((name.into(), value.into()));
        } else {
            return Err(EditFault::TooLarge);
        }
        Ok(())
    }

    /// Is there room for so many more edits, and for so many bytes of them?
    pub(super) fn room_for(&self, edits: usize, bytes: usize) -> Result<(), EditFault> {
        let used = self.effects.edits.iter().fold(0usize, |sum, edit| match edit {
            HeaderEdit::Add { name, value } => sum.saturating_add(name.len() + value.len()),
            HeaderEdit::Remove { name } => sum.saturating_add(name.len()),
            HeaderEdit::RemoveLine { .. } => sum,
        });
        let fits = used.saturating_add(bytes) <= MAX_BYTES;
        let count = self.effects.edits.len().saturating_add(edits);
        if fits && count <= MAX_EDITS { Ok(()) } else { Err(EditFault::TooLarge) }
    }
}

/// Appends a header line where it is legal and there is room.
fn push_header(name: &str, value: &str, out: &mut Vec<u8>) -> Result<(), EditFault> {
    check_header(name, value)?;
    let more = name.len().saturating_add(value.len()).saturating_add(4);
    if out.len().saturating_add(more) > MAX_BYTES {
        return Err(EditFault::TooLarge);
    }
    for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// A token as a name, a value on one line, and a header that is not the engine's own.
fn check_header(name: &str, value: &str) -> Result<(), EditFault> {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&c);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(EditFault::Syntax);
    }
    // RFC 3261 25.1: no control character stands in a header, but for the tab.
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(EditFault::Syntax);
    }
    use HeaderName::{
        CSeq, CallId, ContentLength, From, MaxForwards, Path, RecordRoute, Route, To, Via,
    };
    match HeaderName::from_label(name.as_bytes()) {
        Via | From | To | CallId | CSeq | MaxForwards | ContentLength | Route | RecordRoute
        | Path => Err(EditFault::Forbidden),
        _ => Ok(()),
    }
}

fn check_uri(uri: &str) -> Result<Uri<'_>, EditFault> {
    if uri.len() > MAX_URI_BYTES {
        return Err(EditFault::TooLarge);
    }
    Uri::parse(uri.as_bytes()).map_err(|_| EditFault::Syntax)
}

fn check_sip_uri(uri: &str) -> Result<(), EditFault> {
    let parsed = check_uri(uri)?;
    if parsed.is_sip() { Ok(()) } else { Err(EditFault::Syntax) }
}
