//! Grants: which host interfaces and which location tables a policy may use.

use viaduct_engine::http::HttpOrigin;

use super::ManifestError;
use super::reader::Reader;
use crate::origin;

/// A host interface of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Interface {
    /// Reading and editing the message.
    Message,
    /// The location service.
    Usrloc,
    /// Path (RFC 3327).
    Path,
    /// Targets, next hop, Record-Route.
    Routing,
    /// Digest authentication.
    Auth,
    /// NAT.
    Nat,
    /// Variables of the transaction.
    Vars,
    /// Log lines.
    Log,
    /// Counters.
    Metrics,
    /// Settings of the manifest.
    Settings,
    /// Sets of destinations.
    Dispatcher,
    /// Tables all workers share.
    Table,
    /// Media relay.
    Media,
    /// HTTP requests.
    Http,
}

impl Interface {
    /// All of them.
    pub const ALL: [Interface; 14] = [
        Interface::Message,
        Interface::Usrloc,
        Interface::Path,
        Interface::Routing,
        Interface::Auth,
        Interface::Nat,
        Interface::Vars,
        Interface::Log,
        Interface::Metrics,
        Interface::Settings,
        Interface::Dispatcher,
        Interface::Table,
        Interface::Media,
        Interface::Http,
    ];

    /// Name in the contract and in `[grants]`.
    pub fn name(self) -> &'static str {
        match self {
            Interface::Message => "message",
            Interface::Usrloc => "usrloc",
            Interface::Path => "path",
            Interface::Routing => "routing",
            Interface::Auth => "auth",
            Interface::Nat => "nat",
            Interface::Vars => "vars",
            Interface::Log => "log",
            Interface::Metrics => "metrics",
            Interface::Settings => "settings",
            Interface::Dispatcher => "dispatcher",
            Interface::Table => "table",
            Interface::Media => "media",
            Interface::Http => "http",
        }
    }

    /// Is it granted table by table?
    fn is_by_name(self) -> bool {
        matches!(self, Interface::Usrloc | Interface::Dispatcher | Interface::Table)
    }

    /// The interface of that name.
    pub fn from_name(name: &str) -> Option<Interface> {
        Interface::ALL.into_iter().find(|interface| interface.name() == name)
    }
}

/// What may be done with a location table, a shared table or a set of destinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// lookup, bindings, is-registered; get; all but report.
    #[default]
    Read,
    /// Those, and save and remove; set, add and hit; report.
    Write,
}

/// What a manifest grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// One bit per [`Interface`].
    interfaces: u16,
    /// Few: searched one by one.
    tables: Vec<(Interface, Box<str>, Access)>,
    /// Whom HTTP requests may go to.
    origins: Vec<HttpOrigin>,
}

impl Grants {
    /// May the policy import it?
    pub fn allows(&self, interface: Interface) -> bool {
        self.interfaces & (1 << interface as u8) != 0
    }

    /// May the policy use the table (or the set) of that interface so?
    pub fn allows_table(&self, interface: Interface, table: &str, access: Access) -> bool {
        let fits = |(of, name, granted): &(Interface, Box<str>, Access)| {
            *of == interface && &**name == table && *granted >= access
        };
        self.tables.iter().any(fits)
    }

    /// May the policy send HTTP requests there?
    pub fn allows_origin(&self, origin: &HttpOrigin) -> bool {
        self.origins.contains(origin)
    }

    /// Whom the policy may send HTTP requests to.
    pub fn origins(&self) -> &[HttpOrigin] {
        &self.origins
    }

    fn add(&mut self, interface: Interface) {
        self.interfaces |= 1 << interface as u8;
    }
}

/// Most tables, and the longest name of one in bytes.
const MAX_TABLES: usize = 32;
const MAX_TABLE_BYTES: usize = 64;
/// Most hosts for HTTP.
const MAX_ORIGINS: usize = 32;

pub(super) fn read(root: &mut Reader<'_>) -> Result<Grants, ManifestError> {
    let mut grants = Grants::default();
    let Some(mut table) = root.table("grants")? else { return Ok(grants) };
    for interface in Interface::ALL {
        if interface == Interface::Http {
            read_origins(&mut table, &mut grants)?;
        } else if interface.is_by_name() {
            read_tables(interface, &mut table, &mut grants)?;
        } else if table.boolean(interface.name())? {
            grants.add(interface);
        }
    }
    table.finish()?;
    Ok(grants)
}

/// `usrloc = { location = "write" }`
fn read_tables(
    interface: Interface,
    grants_table: &mut Reader<'_>,
    grants: &mut Grants,
) -> Result<(), ManifestError> {
    let name = interface.name();
    let Some(mut tables) = grants_table.table(name)? else { return Ok(()) };
    let before = grants.tables.len();
    for key in tables.keys() {
        if key.len() > MAX_TABLE_BYTES || grants.tables.len() >= MAX_TABLES {
            return Err(tables.error(&key, "at most 32 tables with names of at most 64 bytes"));
        }
        let access = [("read", Access::Read), ("write", Access::Write)];
        let access = tables.choice(&key, &access)?;
        grants.tables.push((interface, key.into(), access));
    }
    if grants.tables.len() == before {
        let example = "name them, with what is granted: { NAME = \"read\" }, or \"write\"";
        return Err(grants_table.error(name, example));
    }
    grants.add(interface);
    Ok(())
}

/// `http = ["https://api.example.com"]`
fn read_origins(table: &mut Reader<'_>, grants: &mut Grants) -> Result<(), ManifestError> {
    let name = Interface::Http.name();
    let Some(items) = table.texts(name)? else { return Ok(()) };
    if items.is_empty() || items.len() > MAX_ORIGINS {
        return Err(table.error(name, "1 to 32 hosts such as \"https://api.example.com\""));
    }
    for item in &items {
        let origin = origin::granted(&item.value).ok_or_else(|| {
            item.error(
                "a host is written \"https://HOST\" or \"http://HOST:PORT\", with nothing after it",
            )
        })?;
        grants.origins.push(origin);
    }
    grants.add(Interface::Http);
    Ok(())
}
