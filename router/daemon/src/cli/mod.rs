//! The command `viaduct`: what it takes, and what each command does.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 usage. Results go to stdout, everything else to
//! stderr. Start reading at [`Command`].

mod auth;
mod ban;
mod build;
mod client;
mod destinations;
mod diff;
mod location;
mod media;
mod new;
mod policy;
mod record;
mod replay;
mod status;
mod table;
mod test;
mod trace;
mod transfer;
mod user;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use viaduct_policy::Scope;

use crate::config::{Config, MOST_BAN_S};
use crate::control::DestinationState;
use crate::serve::{self, Start};

pub use test::{PolicyTests, TestRun};

/// What the worker threads' wiring gives to the commands.
#[derive(Clone, Copy)]
pub struct Wiring {
    /// Starts a router.
    pub start: Start,
    /// Runs a policy's tests in the real host.
    pub test: PolicyTests,
}

/// A programmable SIP router.
#[derive(Debug, Parser)]
#[command(name = "viaduct", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// Configuration file; client commands take the router's address from it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the router's admin API: a socket's path, or IP:PORT
    #[arg(long, global = true, env = "VIADUCT_ADMIN", value_name = "ADDRESS")]
    admin: Option<String>,
    /// File with the admin API's token
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a router
    Run {
        /// Show registrations and calls as they happen
        #[arg(long)]
        show: bool,
    },
    /// Check a configuration
    Check,
    /// Show what a running router does
    Status,
    /// Look at, remove, move and repair registrations
    #[command(subcommand)]
    Location(LocationCommand),
    /// Look at where users come from, or forget what is cached of them
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Add, change, remove and list the users this router keeps itself ([auth] users_store)
    User(UserArguments),
    /// Keep sources out, before their packets cost anything
    #[command(subcommand)]
    Ban(BanCommand),
    /// Look at calls whose media are relayed, or end their media
    #[command(subcommand)]
    Media(MediaCommand),
    /// Look at the destinations of dispatcher sets, or set their states
    #[command(subcommand, visible_alias = "dispatcher")]
    Destinations(DestinationsCommand),
    /// Write, test and deploy policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Record what policies decide, to replay it with other versions
    Record(RecordArguments),
    /// Show calls as a ladder, and what the policy called and decided at each message
    Trace(TraceArguments),
    /// Run a policy over what was recorded, and show what it would decide otherwise
    Replay(ReplayArguments),
    /// Make a running router read its configuration again
    Reload,
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum LocationCommand {
    /// Show the bindings of an AoR
    Show {
        /// user@host
        aor: String,
        #[command(flatten)]
        table: Table,
    },
    /// Show all bindings
    Dump {
        #[command(flatten)]
        table: Table,
    },
    /// Remove the bindings of an AoR, or one of them
    Remove {
        /// user@host
        aor: String,
        /// Contact URI
        contact: Option<String>,
        #[command(flatten)]
        table: Table,
    },
    /// Write all bindings of the store, one AoR a line of JSON
    Export {
        #[command(flatten)]
        table: Table,
    },
    /// Take bindings over from an export, a Kamailio or OpenSIPS dump, or their database
    Import(ImportArguments),
    /// Check the store
    Verify,
    /// Save what can be read of a damaged embedded store
    Repair,
}

#[derive(Debug, Args)]
struct ImportArguments {
    /// File, or connection string of a PostgreSQL database
    source: String,
    /// Table of the location service to import into
    #[arg(long, default_value = "location")]
    table: String,
    /// Table with bindings in the dump or the database
    #[arg(long, default_value = "location", value_name = "NAME")]
    location_table: String,
    /// Table with users in the dump or the database
    #[arg(long, default_value = "subscriber", value_name = "NAME")]
    subscriber_table: String,
    /// Domain of rows that name none
    #[arg(long)]
    domain: Option<String>,
    /// How far the clock of DATETIME columns is ahead of UTC
    #[arg(long, default_value_t = 0, value_name = "MINUTES", allow_negative_numbers = true)]
    utc_offset_min: i64,
    /// Write the users, with their passwords and hashes, to this new file
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// File with the database's password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Believe any certificate of the database
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, Subcommand)]
enum AuthCommand {
    /// Show where users come from and how many are in memory
    Show,
    /// Forget what the database said of a user, or of all: a new password counts at once
    Flush {
        /// user@realm
        user: Option<String>,
    },
}

#[derive(Debug, Args)]
struct UserArguments {
    #[command(subcommand)]
    command: UserCommand,
    /// Work on the file of the configuration while no router runs
    #[arg(long, global = true)]
    offline: bool,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add a user
    Add(UserSecret),
    /// Give a user another password
    Passwd(UserSecret),
    /// Remove a user
    Remove {
        /// user@realm
        user: String,
    },
    /// List the users, and for which algorithms each has a hash
    List,
}

#[derive(Debug, Args)]
struct UserSecret {
    /// user@realm
    user: String,
    /// File with the password, mode 0600 or 0640; without it the password is read from stdin
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum BanCommand {
    /// Drop packets of an address
    Add {
        /// IP address
        source: IpAddr,
        /// For how long
        #[arg(default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=MOST_BAN_S))]
        seconds: u64,
    },
    /// Take packets of an address again
    Remove {
        /// IP address
        source: IpAddr,
    },
    /// Show who is kept out
    List,
}

#[derive(Debug, Subcommand)]
enum MediaCommand {
    /// Show all calls, the oldest first
    List,
    /// Show the streams of a call
    Show {
        /// Its Call-ID
        call_id: String,
    },
    /// End the media of a call; its SIP goes on
    Kill {
        /// Its Call-ID
        call_id: String,
    },
}

#[derive(Debug, Subcommand)]
enum DestinationsCommand {
    /// Show them: whether they are up, what their last probe gave (Kamailio: dispatcher.list)
    List {
        /// Only those of this set
        set: Option<String>,
    },
    /// Say whether requests are sent there (Kamailio: dispatcher.set_state)
    Set {
        /// Name of the set
        set: String,
        /// SIP URI, as it is configured
        uri: String,
        /// up, down: until its next probe says otherwise; disabled: until you say otherwise
        state: DestinationState,
    },
    /// Take up the destinations of the configuration file, with the rest of it (Kamailio:
    /// dispatcher.reload)
    Reload,
}

#[derive(Debug, Args)]
struct Table {
    /// Table of the location service
    #[arg(long = "table", default_value = "location")]
    name: String,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// List the versions a running router keeps
    List,
    /// Deploy a component; transactions under way keep their version
    Deploy {
        /// What `viaduct policy build` has made
        file: PathBuf,
        #[command(flatten)]
        scope: ScopeArgument,
    },
    /// Go back to the version before
    Rollback {
        #[command(flatten)]
        scope: ScopeArgument,
    },
    /// Make a version of the list live again
    Activate {
        /// Number of the version
        serial: u64,
        #[command(flatten)]
        scope: ScopeArgument,
    },
    /// Let nothing change the live version: no deploy, no rollback, not even its failures
    Pin {
        #[command(flatten)]
        scope: ScopeArgument,
    },
    /// Let the live version be changed again
    Unpin {
        #[command(flatten)]
        scope: ScopeArgument,
    },
    /// Give a domain's or a listener's requests back to the policy of all
    Withdraw {
        #[command(flatten)]
        scope: ScopeArgument,
    },
    /// Show how two versions differ: manifests, imports, sizes
    Diff {
        /// Number of a version, or a component's file
        from: String,
        /// Number of a version, or a component's file
        to: String,
    },
    /// Try a component with a share of the new calls and requests
    #[command(subcommand)]
    Canary(CanaryCommand),
    /// Run a component beside the live one and compare what they decide
    #[command(subcommand)]
    Shadow(ShadowCommand),
    /// Begin a policy in a new folder
    New {
        /// Name: a-z, 0-9 and -
        name: String,
        /// The guest SDK's folder, where it is not found by itself
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
    /// Build a policy into one file that can be deployed
    Build {
        /// The policy's folder
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Where to put it [default: DIR/NAME.wasm]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Put a manifest into a component that another language's tools have made
    Pack {
        /// The component
        code: PathBuf,
        /// Folder with policy.toml
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Where to put it [default: DIR/NAME.wasm]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Run a policy's tests in the real host
    Test {
        /// The policy's folder
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Only tests whose name holds this
        filter: Option<String>,
        /// Test this component, instead of one built from the folder's Rust
        #[arg(long, value_name = "FILE")]
        component: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct ScopeArgument {
    /// Requests it is about: all, domain:example.com, listener:udp:192.0.2.1:5060
    #[arg(long, default_value = "all", value_name = "SCOPE")]
    scope: Scope,
}

#[derive(Debug, Args)]
struct RecordArguments {
    /// File to write, one run a line; passwords' proofs are left out, bodies unless they are wanted
    file: PathBuf,
    /// How long, seconds
    #[arg(long = "for", default_value_t = 60, value_name = "SECONDS")]
    seconds: u64,
    /// Most runs
    #[arg(long, default_value_t = 10_000)]
    cases: u64,
    /// Most bytes of the file
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES")]
    max_bytes: u64,
    /// Only this method; may be given several times
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// Only requests to or from this domain
    #[arg(long)]
    domain: Option<String>,
    /// Only this share of the calls and registrations, by Call-ID, percent
    #[arg(long, default_value_t = 100.0, value_name = "PERCENT")]
    share: f64,
    /// Only this Call-ID, or this user of Request-URI, From or To
    #[arg(long, value_name = "CALL-ID|USER")]
    party: Option<String>,
    /// Keep the messages that pass too, for `viaduct trace`
    #[arg(long)]
    messages: bool,
    /// Keep message bodies
    #[arg(long)]
    bodies: bool,
}

#[derive(Debug, Args)]
struct TraceArguments {
    /// Call-ID, or user of Request-URI, From or To; in a record, without it: everything
    party: Option<String>,
    /// Read a record made with --messages, instead of looking on live
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Look on for so long, seconds
    #[arg(long = "for", default_value_t = 60, value_name = "SECONDS")]
    seconds: u64,
    /// Write the messages as a capture, for sngrep and Wireshark
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Keep message bodies
    #[arg(long)]
    bodies: bool,
}

#[derive(Debug, Args)]
struct ReplayArguments {
    /// What `viaduct record` has written
    file: PathBuf,
    /// Component to run over it
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Show this case alone, whole: its number, from 1
    #[arg(long, value_name = "NO")]
    case: Option<usize>,
    /// Write that case as a unit test into the folder `cases` of this policy
    #[arg(long, value_name = "DIR", requires = "case")]
    save_test: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum CanaryCommand {
    /// Begin: requests are chosen by a hash of their Call-ID
    Start {
        /// What `viaduct policy build` has made
        file: PathBuf,
        /// Share of new transactions, percent, 0.1 to 99.9
        #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
        share: f64,
    },
    /// Make it live for all
    Promote,
    /// End it
    Stop,
}

#[derive(Debug, Subcommand)]
enum ShadowCommand {
    /// Begin; nothing it decides takes effect
    Start {
        /// What `viaduct policy build` has made
        file: PathBuf,
    },
    /// End it
    Stop,
}

/// Where `run` and `check` look without `--config`.
const DEFAULT_CONFIG: &str = "/etc/viaduct/viaduct.toml";

/// Runs the command line.
pub fn main(wiring: Wiring) -> ExitCode {
    let cli = Cli::parse();
    match run(&cli, wiring) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            // The whole chain on one line; configuration errors are lines of their own.
            let _ = writeln!(std::io::stderr(), "{fault:#}");
            ExitCode::FAILURE
        }
    }
}

/// `Ok(false)`: the failure has been told already.
fn run(cli: &Cli, wiring: Wiring) -> anyhow::Result<bool> {
    let common = &cli.common;
    match &cli.command {
        Command::Run { show } => {
            serve::run(&config_file(common), *show, wiring.start)?;
            Ok(true)
        }
        Command::Check => {
            let config = Config::load(&config_file(common))?;
            print(&format!("{}: ok\n{}\n", config.file.display(), config.summary()))
        }
        Command::Status => status::run(common),
        Command::Location(LocationCommand::Export { table }) => {
            transfer::export(common, &table.name)
        }
        Command::Location(LocationCommand::Import(arguments)) => {
            transfer::import(common, arguments)
        }
        Command::Location(LocationCommand::Verify) => transfer::check(common),
        Command::Location(LocationCommand::Repair) => transfer::mend(common),
        Command::Location(command) => location::run(common, command),
        Command::Auth(command) => auth::run(common, command),
        Command::User(arguments) => user::run(common, arguments),
        Command::Ban(command) => ban::run(common, command),
        Command::Media(command) => media::run(common, command),
        Command::Destinations(command) => destinations::run(common, command),
        Command::Policy(command) => policy_command(common, command, wiring),
        Command::Record(arguments) => record::run(common, arguments),
        Command::Trace(arguments) => trace::run(common, arguments),
        Command::Replay(arguments) => replay::run(common, arguments),
        Command::Reload => status::reload(common),
        Command::Version => print(&format!("viaduct {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn policy_command(
    common: &Common,
    command: &PolicyCommand,
    wiring: Wiring,
) -> anyhow::Result<bool> {
    match command {
        PolicyCommand::List => policy::list(common),
        PolicyCommand::Deploy { file, scope } => policy::deploy(common, file, &scope.scope),
        PolicyCommand::Rollback { scope } => policy::in_scope(common, "rollback", &scope.scope),
        PolicyCommand::Activate { serial, scope } => {
            policy::activate(common, *serial, &scope.scope)
        }
        PolicyCommand::Pin { scope } => policy::in_scope(common, "pin", &scope.scope),
        PolicyCommand::Unpin { scope } => policy::in_scope(common, "unpin", &scope.scope),
        PolicyCommand::Withdraw { scope } => policy::in_scope(common, "withdraw", &scope.scope),
        PolicyCommand::Diff { from, to } => diff::run(common, from, to),
        PolicyCommand::Canary(command) => policy::canary(common, command),
        PolicyCommand::Shadow(command) => policy::shadow(common, command),
        PolicyCommand::New { name, sdk } => new::run(name, sdk.as_deref()),
        PolicyCommand::Build { dir, out } => {
            let made = build::component(dir, out.as_deref())?;
            print(&format!("{made}\n"))
        }
        PolicyCommand::Pack { code, dir, out } => {
            let made = build::pack(code, dir, out.as_deref())?;
            print(&format!("{made}\n"))
        }
        PolicyCommand::Test { dir, filter, component } => {
            test::run(dir, filter.as_deref(), component.as_deref(), wiring.test)
        }
    }
}

fn config_file(common: &Common) -> PathBuf {
    common.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG))
}

/// Prints a result; a reader that has gone away (`viaduct location dump | head`) is no failure.
fn print(text: &str) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(fault) if fault.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(fault).context("stdout")
        }
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests;
