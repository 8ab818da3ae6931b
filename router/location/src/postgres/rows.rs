//! Records as rows, and back.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet, Home};
use viaduct_engine::{AorKey, ConnId, Transport};

use super::text::{from_column, to_column};
use crate::nodes::Nodes;
use crate::store::{Record, Write};

/// Routers, each start of each, that are kept by name; more cost memory.
const MOST_HOMES: usize = 4096;
/// Bindings of one AoR that are read: far above what a registrar lets an AoR have.
const MOST_BINDINGS: usize = 1024;

/// Columns of a row of `location`, in the order of [`Columns::parameters`] and [`Reader::binding`]; the
/// first of them in a row of either query is its `position`.
pub(super) const BINDING_COLUMNS: &str = "position, contact, contact_params, path, received, callid, q_milli, methods, \
     user_agent, instance, reg_id, socket, nat, node, node_address, boot, flow, attributes";

/// Who this router is in the rows.
pub(super) struct Me {
    pub(super) node: String,
    pub(super) address: String,
    pub(super) boot: i64,
}

/// A group of changes, column by column: what the statements `write` and `refresh` take.
#[derive(Default)]
pub(super) struct Columns<'a> {
    aors: AorColumns<'a>,
    /// Rows of `location` that change.
    bindings: BindingColumns<'a>,
    /// Some AoR is new to the store, or has fewer bindings than before.
    reshaped: bool,
}

#[derive(Default)]
struct AorColumns<'a> {
    tbl: Vec<&'a str>,
    aor: Vec<Cow<'a, str>>,
    revision: Vec<i64>,
    part: Vec<i32>,
    bindings: Vec<i16>,
    expires_ms: Vec<i64>,
    /// Where its numbers begin in `refreshed`, from 1.
    at: Vec<i32>,
    /// Of each binding of each AoR: CSeq, when it expires, when it was refreshed.
    refreshed: Vec<i64>,
}

#[derive(Default)]
struct BindingColumns<'a> {
    tbl: Vec<&'a str>,
    aor: Vec<Cow<'a, str>>,
    part: Vec<i32>,
    position: Vec<i16>,
    contact: Vec<Cow<'a, str>>,
    contact_params: Vec<Cow<'a, str>>,
    path: Vec<Cow<'a, str>>,
    received: Vec<Cow<'a, str>>,
    callid: Vec<Cow<'a, str>>,
    q_milli: Vec<Option<i16>>,
    methods: Vec<Option<i64>>,
    user_agent: Vec<Cow<'a, str>>,
    instance: Vec<Cow<'a, str>>,
    reg_id: Vec<i64>,
    socket: Vec<String>,
    nat: Vec<bool>,
    node: Vec<&'a str>,
    node_address: Vec<&'a str>,
    boot: Vec<i64>,
    flow: Vec<i64>,
    attributes: Vec<Cow<'a, str>>,
}

impl<'a> Columns<'a> {
    /// Where a key is there twice the later set counts, on the revision of the first, and the parts
    /// of both become one. Also gives, per item, its part.
    pub(super) fn new(group: &'a [Write], me: &'a Me, now_ms: i64) -> (Columns<'a>, Vec<u32>) {
        let parts = joined_parts(group);
        let mut columns = Columns::default();
        let mut first: HashMap<&AorKey, u64> = HashMap::with_capacity(group.len());
        let mut last: HashMap<&AorKey, usize> = HashMap::with_capacity(group.len());
        for (index, write) in group.iter().enumerate() {
            first.entry(&write.key).or_insert(write.revision);
            last.insert(&write.key, index);
        }
        for (index, write) in group.iter().enumerate() {
            if last.get(&write.key) == Some(&index) {
                let revision = first.get(&write.key).copied().unwrap_or(0);
                let part = parts.get(index).copied().unwrap_or(0);
                columns.push(write, revision, part, me, now_ms);
            }
        }
        (columns, parts)
    }

    fn push(&mut self, write: &'a Write, revision: u64, part: u32, me: &'a Me, now_ms: i64) {
        let aors = &mut self.aors;
        let aor = to_column(&write.key.aor);
        let part = to_i32(part);
        aors.tbl.push(&write.key.table);
        aors.aor.push(aor.clone());
        aors.revision.push(to_i64(revision));
        aors.part.push(part);
        let bindings = write.set.bindings.iter().take(MOST_BINDINGS);
        aors.bindings.push(to_i16(bindings.len()));
        // A removal expires now: that is when its tombstone begins to age.
        let last_ms = if write.set.is_empty() { now_ms } else { to_i64(write.expires_ms) };
        aors.expires_ms.push(last_ms);
        aors.at.push(i32::try_from(aors.refreshed.len()).unwrap_or(i32::MAX).saturating_add(1));
        // What the store has counts at the revision it has it at.
        let base = write.base.as_ref().filter(|_| revision > 0 && write.revision == revision);
        self.reshaped |= base.is_none_or(|base| base.len() > write.set.len());
        for (position, binding) in bindings.enumerate() {
            let fields = binding.fields();
            let times = [fields.expires_ms, fields.modified_ms].map(to_i64);
            self.aors.refreshed.push(fields.cseq.into());
            self.aors.refreshed.extend(times);
            let before = base.and_then(|base| base.bindings.get(position));
            if before.is_some_and(|before| binding.is_refresh_of(before)) {
                continue;
            }
            let columns = &mut self.bindings;
            columns.tbl.push(&write.key.table);
            columns.aor.push(aor.clone());
            columns.part.push(part);
            columns.position.push(to_i16(position));
            columns.push(binding, me);
        }
    }

    /// Does the statement `refresh` do, which takes no rows of `location`?
    pub(super) fn are_refreshes(&self) -> bool {
        !self.reshaped && self.bindings.tbl.is_empty()
    }

    /// All of the statement `write`, or of `refresh`, which takes the first of them. `soon_ms`: what
    /// expires by then is as good as expired.
    pub(super) fn parameters<'p>(
        &'p self,
        writer: &'p i64,
        soon_ms: &'p i64,
    ) -> Vec<&'p (dyn ToSql + Sync)> {
        let (a, b) = (&self.aors, &self.bindings);
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![
            &a.tbl,
            &a.aor,
            &a.revision,
            &a.part,
            &a.bindings,
            &a.expires_ms,
            &a.at,
            &a.refreshed,
            writer,
            soon_ms,
        ];
        if self.are_refreshes() {
            return all;
        }
        let rows: [&(dyn ToSql + Sync); 21] = [
            &b.tbl,
            &b.aor,
            &b.part,
            &b.position,
            &b.contact,
            &b.contact_params,
            &b.path,
            &b.received,
            &b.callid,
            &b.q_milli,
            &b.methods,
            &b.user_agent,
            &b.instance,
            &b.reg_id,
            &b.socket,
            &b.nat,
            &b.node,
            &b.node_address,
            &b.boot,
            &b.flow,
            &b.attributes,
        ];
        all.extend(rows);
        all
    }
}

impl<'a> BindingColumns<'a> {
    fn push(&mut self, binding: &'a Binding, me: &'a Me) {
        let fields = binding.fields();
        self.contact.push(to_column(fields.contact));
        self.contact_params.push(to_column(fields.contact_params));
        self.path.push(to_column(fields.path));
        self.received.push(to_column(fields.received));
        self.callid.push(to_column(fields.call_id));
        self.q_milli.push(fields.q_milli.map(|q| i16::try_from(q).unwrap_or(i16::MAX)));
        self.methods.push(fields.methods.map(i64::from));
        self.user_agent.push(to_column(fields.user_agent));
        self.instance.push(to_column(fields.instance));
        self.reg_id.push(fields.reg_id.into());
        self.socket.push(socket(fields.transport, fields.local));
        self.nat.push(fields.nat);
        let (node, address, boot) = match binding.home() {
            Some(home) => (&*home.node, &*home.address, home.boot.cast_signed()),
            None => (&*me.node, &*me.address, me.boot),
        };
        self.node.push(node);
        self.node_address.push(address);
        self.boot.push(boot);
        self.flow.push(binding.home_conn().0.cast_signed());
        self.attributes.push(to_column(fields.attributes));
    }
}

/// Parts that share a key become one, by the smallest number.
fn joined_parts(group: &[Write]) -> Vec<u32> {
    let mut by_key: HashMap<&AorKey, u32> = HashMap::with_capacity(group.len());
    let mut joined: HashMap<u32, u32> = HashMap::new();
    let root = |joined: &HashMap<u32, u32>, mut part: u32| {
        while let Some(smaller) = joined.get(&part) {
            part = *smaller;
        }
        part
    };
    for write in group {
        let earlier = *by_key.entry(&write.key).or_insert(write.part);
        let (one, other) = (root(&joined, earlier), root(&joined, write.part));
        if one != other {
            joined.insert(one.max(other), one.min(other));
        }
    }
    group.iter().map(|write| root(&joined, write.part)).collect()
}

/// `udp:192.0.2.1:5060`
pub(crate) fn socket(transport: Transport, local: SocketAddr) -> String {
    let name = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Ws => "ws",
        Transport::Wss => "wss",
    };
    format!("{name}:{local}")
}

pub(crate) fn parse_socket(text: &str) -> Option<(Transport, SocketAddr)> {
    let (name, local) = text.split_once(':')?;
    Some((Transport::from_name(name.as_bytes())?, local.parse().ok()?))
}

/// A router, by the name of its node, and which of its starts.
type Start = (Box<str>, i64);

/// Reads rows; keeps one [`Home`] for each start of each router.
pub(super) struct Reader {
    me: Me,
    nodes: Nodes,
    homes: Mutex<HashMap<Start, Arc<Home>>>,
}

impl Reader {
    /// `nodes` is told how many starts of routers there are.
    pub(super) fn new(me: Me, nodes: Nodes) -> Reader {
        Reader { me, nodes, homes: Mutex::default() }
    }

    pub(super) fn me(&self) -> &Me {
        &self.me
    }

    fn home(&self, node: &str, boot: i64, address: &str) -> Arc<Home> {
        let mut homes = self.homes.lock();
        if let Some(home) = homes.get(&(node.into(), boot)).filter(|h| *h.address == *address) {
            return Arc::clone(home);
        }
        if homes.len() >= MOST_HOMES {
            homes.clear();
        }
        let home = Home { node: node.into(), boot: boot.cast_unsigned(), address: address.into() };
        let home = Arc::new(home);
        homes.insert((node.into(), boot), Arc::clone(&home));
        self.nodes.note_starts(homes.len());
        home
    }

    /// A binding of a row whose columns begin at `at`, and whether this router would write it so
    /// again; an error names the column.
    fn binding(&self, row: &Row, at: usize) -> Result<(Binding, bool), String> {
        let get = |offset: usize| Column { row, index: at + offset };
        let text = |offset: usize| get(offset).text();
        let contact = text(1)?;
        let contact_params = text(2)?;
        let (path, received, call_id) = (text(3)?, text(4)?, text(5)?);
        let (user_agent, instance, attributes) = (text(8)?, text(9)?, text(17)?);
        let q_milli: Option<i16> = get(6).get()?;
        let methods: Option<i64> = get(7).get()?;
        let socket: &str = get(11).get()?;
        let (transport, local) =
            parse_socket(socket).ok_or_else(|| format!("socket `{}`", socket.escape_debug()))?;
        let (node, address): (&str, &str) = (get(13).get()?, get(14).get()?);
        let (boot, flow): (i64, i64) = (get(15).get()?, get(16).get()?);
        let conn = ConnId(flow.cast_unsigned());
        let is_mine = node == self.me.node;
        let of_this_start = is_mine && boot == self.me.boot;
        let binding = Binding::pack(&BindingFields {
            contact: &from_column(contact),
            contact_params: &from_column(contact_params),
            path: &from_column(path),
            received: &from_column(received),
            call_id: &from_column(call_id),
            user_agent: &from_column(user_agent),
            instance: &from_column(instance),
            attributes: &from_column(attributes),
            cseq: get(18).small()?,
            q_milli: q_milli.and_then(|q| u16::try_from(q).ok()).map(|q| q.min(1000)),
            reg_id: get(10).small()?,
            methods: methods.map(|_| get(7).small()).transpose()?,
            expires_ms: get(19).number()?,
            modified_ms: get(20).number()?,
            transport,
            local,
            // Connections end with the process that had them.
            conn: if of_this_start { conn } else { ConnId::NONE },
            nat: get(12).get()?,
        });
        // Imported bindings name no router: whoever has them reaches them.
        if is_mine || node.is_empty() {
            return Ok((binding, of_this_start));
        }
        Ok((binding.at(self.home(node, boot, address), conn), true))
    }
}

/// One column of a row.
#[derive(Clone, Copy)]
struct Column<'a> {
    row: &'a Row,
    index: usize,
}

impl<'a> Column<'a> {
    fn get<T: tokio_postgres::types::FromSql<'a>>(self) -> Result<T, String> {
        self.row.try_get(self.index).map_err(|error| super::config::describe(&error))
    }

    fn text(self) -> Result<&'a str, String> {
        self.get()
    }

    fn number(self) -> Result<u64, String> {
        let number: i64 = self.get()?;
        u64::try_from(number).map_err(|_| self.bad(number))
    }

    fn small(self) -> Result<u32, String> {
        let number: i64 = self.get()?;
        u32::try_from(number).map_err(|_| self.bad(number))
    }

    fn bad(self, number: i64) -> String {
        let name = self.row.columns().get(self.index).map_or("column", |column| column.name());
        format!("{name} {number}")
    }
}

/// Puts rows of `records` together: all rows of an AoR follow each other.
pub(super) struct Records<'r> {
    reader: &'r Reader,
    names: Vec<Arc<str>>,
    open: Option<Open>,
}

/// A record whose rows are being read.
struct Open {
    key: AorKey,
    revision: u64,
    bindings: Vec<Binding>,
    exact: bool,
}

impl<'r> Records<'r> {
    pub(super) fn new(reader: &'r Reader) -> Records<'r> {
        Records { reader, names: Vec::new(), open: None }
    }

    /// Takes a row (`tbl`, `aor`, `seq`, then a binding's columns, NULL where there is none); gives
    /// the record before, where this begins another. Rows that cannot be read are told and left
    /// out.
    pub(super) fn row(&mut self, row: &Row) -> Result<Option<Record>, tokio_postgres::Error> {
        let (table, aor): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let revision: i64 = row.try_get(2)?;
        let bytes = from_column(aor);
        let same = |key: &AorKey| *key.table == *table && *key.aor == *bytes;
        let mut before = None;
        if !self.open.as_ref().is_some_and(|open| same(&open.key)) {
            before = self.take();
            let key = AorKey { table: self.name(table), aor: bytes.into() };
            let (revision, bindings) = (revision.cast_unsigned(), Vec::new());
            self.open = Some(Open { key, revision, bindings, exact: true });
        }
        let position: Option<i16> = row.try_get(3)?;
        let Some((position, open)) = position.zip(self.open.as_mut()) else {
            return Ok(before);
        };
        match self.reader.binding(row, 3) {
            Ok((binding, as_written)) if open.bindings.len() < MOST_BINDINGS => {
                open.exact &= as_written && to_i16(open.bindings.len()) == position;
                open.bindings.push(binding);
            }
            Ok(_) => {
                open.exact = false;
                tracing::error!(table, aor, "database: too many bindings, the rest left out");
            }
            Err(fault) => {
                open.exact = false;
                tracing::error!(table, aor, position, %fault, "database: binding left out");
            }
        }
        Ok(before)
    }

    /// The last record.
    pub(super) fn take(&mut self) -> Option<Record> {
        let Open { key, revision, bindings, exact } = self.open.take()?;
        Some(Record { key, set: BindingSet { bindings: bindings.into() }, revision, exact })
    }

    fn name(&mut self, table: &str) -> Arc<str> {
        if let Some(known) = self.names.iter().find(|known| ***known == *table) {
            return Arc::clone(known);
        }
        let name: Arc<str> = table.into();
        if self.names.len() < 256 {
            self.names.push(Arc::clone(&name));
        }
        name
    }
}

// Times, revisions and counters stay far below what these cut.
fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_i32(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn to_i16(number: usize) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(aor: u8, part: u32, revision: u64) -> Write {
        let key = AorKey { table: "location".into(), aor: Box::new([aor]) };
        Write { part, revision, ..Write::new(key, Arc::default()) }
    }

    #[test]
    fn parts_that_share_an_aor_become_one() {
        let group = [write(1, 0, 5), write(2, 1, 6), write(3, 2, 7), write(1, 2, 5)];
        assert_eq!(joined_parts(&group), [0, 1, 0, 0]);
        let me = Me { node: "a".into(), address: String::new(), boot: 1 };
        let (columns, _) = Columns::new(&group, &me, 9);
        assert_eq!(columns.aors.aor, ["\u{2}", "\u{3}", "\u{1}"]);
        assert_eq!(columns.aors.part, [1, 0, 0]);
        assert_eq!(columns.aors.revision, [6, 7, 5]);
    }

    proptest! {
        #[test]
        fn every_key_is_written_once_and_parts_hold_together(
            items in proptest::collection::vec((0u8..8, 0u32..8), 0..20),
        ) {
            let group: Vec<Write> = items.iter().map(|(aor, part)| write(*aor, *part, 1)).collect();
            let parts = joined_parts(&group);
            for (i, one) in group.iter().enumerate() {
                for (j, other) in group.iter().enumerate() {
                    if one.key == other.key || one.part == other.part {
                        prop_assert_eq!(parts[i], parts[j]);
                    }
                }
            }
            let me = Me { node: "a".into(), address: String::new(), boot: 1 };
            let (columns, _) = Columns::new(&group, &me, 9);
            let mut aors = columns.aors.aor.clone();
            aors.sort();
            aors.dedup();
            prop_assert_eq!(aors.len(), columns.aors.aor.len());
        }

        #[test]
        fn sockets_come_back(local: SocketAddr, transport in 0usize..5) {
            // Scope and flow label of IPv6 are not kept.
            let local = SocketAddr::new(local.ip(), local.port());
            let all =
                [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
            let written = socket(all[transport], local);
            prop_assert_eq!(parse_socket(&written), Some((all[transport], local)));
        }

        #[test]
        fn any_socket_column_is_read(text: String) {
            let _ = parse_socket(&text);
        }
    }
}
