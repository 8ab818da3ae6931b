//! Bindings as lines of JSON: one AoR a line, to keep, to look at, to move to another store.
//!
//! Bytes that are no UTF-8 stand as `\x` and hexadecimal digits, as in the database. Which router
//! and connection lead to a phone is not in it: that ends with the move.

use serde::{Deserialize, Serialize};
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet};
use viaduct_engine::{AorKey, ConnId};

use crate::postgres::rows::{parse_socket, socket};
use crate::postgres::text::{from_column, to_column};
use crate::table::MAX_TABLE_BYTES;

/// Longest line, bytes: far above 64 bindings of the largest size.
pub const MAX_LINE_BYTES: usize = 4 << 20;
/// Bindings of a line, as many as an AoR may have.
const MAX_BINDINGS: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    table: Text<'a>,
    aor: Text<'a>,
    #[serde(borrow)]
    bindings: Vec<Entry<'a>>,
}

type Text<'a> = std::borrow::Cow<'a, str>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    contact: Text<'a>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    contact_params: Text<'a>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    path: Text<'a>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    received: Text<'a>,
    call_id: Text<'a>,
    cseq: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    q_milli: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    methods: Option<u32>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    user_agent: Text<'a>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    instance: Text<'a>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    attributes: Text<'a>,
    #[serde(default)]
    reg_id: u32,
    expires_ms: u64,
    modified_ms: u64,
    socket: Text<'a>,
    #[serde(default)]
    nat: bool,
}

/// The line of a record, without its end.
pub fn to_line(key: &AorKey, set: &BindingSet) -> String {
    let bindings = set.bindings.iter().map(|binding| {
        let fields = binding.fields();
        Entry {
            contact: to_column(fields.contact),
            contact_params: to_column(fields.contact_params),
            path: to_column(fields.path),
            received: to_column(fields.received),
            call_id: to_column(fields.call_id),
            cseq: fields.cseq,
            q_milli: fields.q_milli,
            methods: fields.methods,
            user_agent: to_column(fields.user_agent),
            instance: to_column(fields.instance),
            attributes: to_column(fields.attributes),
            reg_id: fields.reg_id,
            expires_ms: fields.expires_ms,
            modified_ms: fields.modified_ms,
            socket: socket(fields.transport, fields.local).into(),
            nat: fields.nat,
        }
    });
    let line = Line {
        table: (&*key.table).into(),
        aor: to_column(&key.aor),
        bindings: bindings.collect(),
    };
    // Texts and numbers: nothing in it can fail.
    serde_json::to_string(&line).unwrap_or_default()
}

/// The record of a line; an error says what does not fit.
pub fn from_line(line: &str) -> Result<(AorKey, BindingSet), String> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if line.table.is_empty() || line.table.len() > MAX_TABLE_BYTES || line.aor.is_empty() {
        return Err("`table` or `aor` is empty or too long".to_owned());
    }
    if line.bindings.len() > MAX_BINDINGS {
        return Err(format!("more than {MAX_BINDINGS} bindings"));
    }
    let bindings: Result<Vec<Binding>, String> = line.bindings.iter().map(unpack).collect();
    let key = AorKey { table: (&*line.table).into(), aor: from_column(&line.aor).into() };
    Ok((key, BindingSet { bindings: bindings?.into() }))
}

fn unpack(entry: &Entry<'_>) -> Result<Binding, String> {
    let (transport, local) =
        parse_socket(&entry.socket).ok_or_else(|| format!("`socket` is {:?}", entry.socket))?;
    if entry.contact.is_empty() {
        return Err("`contact` is empty".to_owned());
    }
    if entry.q_milli.is_some_and(|q| q > 1000) {
        return Err("`q_milli` is more than 1000".to_owned());
    }
    Ok(Binding::pack(&BindingFields {
        contact: &from_column(&entry.contact),
        contact_params: &from_column(&entry.contact_params),
        path: &from_column(&entry.path),
        received: &from_column(&entry.received),
        call_id: &from_column(&entry.call_id),
        user_agent: &from_column(&entry.user_agent),
        instance: &from_column(&entry.instance),
        attributes: &from_column(&entry.attributes),
        cseq: entry.cseq,
        q_milli: entry.q_milli,
        reg_id: entry.reg_id,
        methods: entry.methods,
        expires_ms: entry.expires_ms,
        modified_ms: entry.modified_ms,
        transport,
        local,
        conn: ConnId::NONE,
        nat: entry.nat,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_does_not_fit_says_why() {
        let binding = r#"{"contact":"sip:a@h","call_id":"c","cseq":1,"expires_ms":2,"modified_ms":1,"socket":"SOCKET"}"#;
        let line = |aor: &str, socket: &str| {
            let binding = binding.replace("SOCKET", socket);
            format!(r#"{{"table":"location","aor":"{aor}","bindings":[{binding}]}}"#)
        };
        let (key, set) = from_line(&line("a@d", "udp:192.0.2.1:5060")).unwrap();
        assert_eq!((&*key.aor, set.len()), (&b"a@d"[..], 1));
        assert!(from_line(&line("", "udp:192.0.2.1:5060")).unwrap_err().contains("aor"));
        assert!(from_line(&line("a@d", "here")).unwrap_err().contains("socket"));
        assert!(from_line("{}").unwrap_err().contains("table"));
        assert!(from_line(r#"{"tabel":"x"}"#).unwrap_err().contains("tabel"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            aor in proptest::collection::vec(any::<u8>(), 1..20),
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 8),
            numbers: (u32, u32, u64, u64, bool),
            q_milli in proptest::option::of(0u16..=1000),
        ) {
            let (cseq, reg_id, expires_ms, modified_ms, nat) = numbers;
            let set = BindingSet { bindings: [Binding::pack(&BindingFields {
                contact: &texts[0],
                contact_params: &texts[1],
                path: &texts[2],
                received: &texts[3],
                call_id: &texts[4],
                user_agent: &texts[5],
                instance: &texts[6],
                attributes: &texts[7],
                cseq,
                q_milli,
                reg_id,
                methods: Some(5),
                expires_ms,
                modified_ms,
                transport: viaduct_engine::Transport::Tcp,
                local: std::net::SocketAddr::from(([192, 0, 2, 1], 5060)),
                conn: ConnId::NONE,
                nat,
            })].into() };
            let key = AorKey { table: "location".into(), aor: aor.into() };
            let line = to_line(&key, &set);
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(from_line(&line), Ok((key, set)));
        }

        #[test]
        fn any_line_is_a_record_or_a_fault(line: String) {
            let _ = from_line(&line);
        }
    }
}
