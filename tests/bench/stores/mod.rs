//! What it costs to keep bindings where they survive, beside Kamailio over the same PostgreSQL.
//!
//! * `write`: registrations a second that are committed before they are answered. Server, database
//!   and generator share the cores as the kernel sees fit, and the generator sleeps while it waits.
//! * `many`: start-up, memory and look-up with very many bindings.
//!
//! The database is one server for all, with a disk that is waited for (`fsync`), and a database in
//! it for each.

mod lookup;
mod many;
mod rates;
mod report;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use viaduct_tests::support::kamailio;
use viaduct_tests::support::postgres::{NO_POSTGRES, Postgres};

use crate::subject::{Setup, Subject};
use crate::veth::Place;
use crate::{Arguments, wanted};

/// Who keeps bindings where. In the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    /// Kamailio, `db_mode` 1, with eight processes: each waits for its own commit.
    KamailioPostgres,
    /// The same with one, as the router has one worker.
    KamailioOne,
    /// Viaduct, write-through.
    ViaductPostgres,
    /// Viaduct, write-through to its embedded store.
    ViaductFile,
}

impl Keeper {
    const ALL: [Self; 4] =
        [Self::KamailioPostgres, Self::KamailioOne, Self::ViaductPostgres, Self::ViaductFile];

    fn name(self) -> &'static str {
        match self {
            Self::KamailioPostgres => "kamailio, PostgreSQL",
            Self::KamailioOne => "kamailio, one process",
            Self::ViaductPostgres => "viaduct, PostgreSQL",
            Self::ViaductFile => "viaduct, its own file",
        }
    }

    fn needs_database(self) -> bool {
        self != Self::ViaductFile
    }

    /// Kamailio's database, and its processes.
    fn of_kamailio(self) -> Option<(&'static str, u32)> {
        match self {
            Self::KamailioPostgres => Some(("kamailio", 8)),
            Self::KamailioOne => Some(("kamailio_one", 1)),
            Self::ViaductPostgres | Self::ViaductFile => None,
        }
    }
}

/// Those that can be measured here.
struct Stand<'a> {
    router: (&'a Path, &'a Path),
    database: Option<Postgres>,
    keepers: Vec<Keeper>,
}

/// Settings of the server: room enough that it does not tidy up in the middle of a measurement.
const SETTINGS: [&str; 3] =
    ["shared_buffers=512MB", "max_wal_size=8GB", "checkpoint_timeout=30min"];
/// Where Debian has the tables of Kamailio.
const KAMAILIO_TABLES: &str = "/usr/share/kamailio/postgres";

/// Measures what was asked for and prints it.
pub(crate) fn measure(arguments: &Arguments, router: (&Path, &Path)) -> Result<()> {
    let (write, many) = (wanted(&arguments.work, "write"), wanted(&arguments.work, "many"));
    if !write && !many {
        return Ok(());
    }
    let stand = Stand::new(router)?;
    if write {
        let rates = rates::measure(&stand, arguments.runs)?;
        print!("{}", report::rates(&rates));
    }
    if many && !stand.keepers.contains(&Keeper::KamailioPostgres) {
        println!("skipped: many bindings, which come from the table of Kamailio");
    } else if many {
        let found = many::measure(&stand, arguments.bindings, arguments.scale)?;
        print!("{}", report::many(&found, arguments.bindings));
    }
    Ok(())
}

impl<'a> Stand<'a> {
    fn new(router: (&'a Path, &'a Path)) -> Result<Self> {
        let database = Postgres::start(&SETTINGS.map(str::to_owned))?;
        let mut keepers = Keeper::ALL.to_vec();
        match &database {
            None => println!("skipped: {NO_POSTGRES}"),
            Some(_) if kamailio::installed().is_none() || kamailio::postgres_module().is_none() => {
                println!("skipped: Kamailio with PostgreSQL (kamailio-postgres-modules)");
                keepers.retain(|one| one.of_kamailio().is_none());
            }
            Some(server) => {
                let databases = keepers.iter().filter_map(|one| one.of_kamailio());
                databases.into_iter().try_for_each(|(name, _)| kamailio_tables(server, name))?;
            }
        }
        keepers.retain(|one| !one.needs_database() || database.is_some());
        Ok(Self { router, database, keepers })
    }

    fn database(&self) -> Result<&Postgres> {
        self.database.as_ref().context(NO_POSTGRES)
    }

    /// Starts a server on the bindings it has.
    fn start(&self, keeper: Keeper, setup: &Setup, pinned: bool) -> Result<Subject> {
        match keeper.of_kamailio() {
            Some(of) => Subject::kamailio_in(self.database()?, of, pinned),
            None => Subject::viaduct(setup),
        }
    }

    /// How the router is set up; unused for Kamailio.
    fn setup(&self, keeper: Keeper, pinned: bool) -> Result<Setup> {
        let limits = "max_aors = 20_000_000\nmax_bindings = 20_000_000";
        let lines = match keeper {
            Keeper::KamailioPostgres | Keeper::KamailioOne => String::new(),
            Keeper::ViaductPostgres => format!(
                "store = \"postgres\"\n{limits}\n[location.postgres]\nconnection = \"{}\"\n\
                 node = \"bench\"\n",
                self.database()?.connection()
            ),
            Keeper::ViaductFile => limits.to_owned(),
        };
        Ok(Setup::new(&Place::Loopback, self.router.0, self.router.1)?
            .location(lines)
            .more("")
            .pinned(pinned))
    }
}

/// The tables as Kamailio's package has them.
fn kamailio_tables(server: &Postgres, database: &str) -> Result<()> {
    server.sql_in("postgres", &format!("CREATE DATABASE {database}"))?;
    for file in ["standard-create.sql", "usrloc-create.sql"] {
        let path = Path::new(KAMAILIO_TABLES).join(file);
        let text = fs::read_to_string(&path);
        let Ok(text) = text else { bail!("{} is not there", path.display()) };
        server.sql_in(database, &text)?;
    }
    Ok(())
}
