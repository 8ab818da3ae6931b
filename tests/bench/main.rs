//! `make bench`: what one answered request costs a server in CPU time, beside Kamailio and beside a
//! bare echo server, measured in one run on one machine.
//!
//! The server under test is pinned to core 0 and this generator to core 1, with 64 requests
//! outstanding over kernel UDP on loopback. The cost is read from the kernel's own accounting of
//! the server's threads (`/proc/PID/task/*/schedstat`), system calls included, over a fixed number
//! of requests. Each measurement is made three times, interleaved between the servers so that a
//! noisy minute hits all of them, and the median is printed.
//!
//! What it costs to keep bindings where they survive is measured by [`stores`], in another way: there
//! a database needs the cores too. What AF_XDP saves shows with `--veth` ([`veth`]): the servers are
//! then on a cable, as loopback has no way past the stack.
//!
//! What is left of it when ten times as much is asked of it as it can do: [`overload`].
//!
//! Start reading at [`work`] (what is asked of a server), then [`drive`] (the 64 slots).

mod call;
mod cpu;
mod distance;
mod drive;
mod echo;
mod handed;
mod overload;
mod single;
mod stores;
mod subject;
mod table;
mod veth;
mod wire;
mod work;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::drive::Run;
use crate::subject::{Kind, Setup, Subject};
use crate::table::Table;
use crate::veth::Place;
use crate::work::Work;

/// Server CPU time per answered request, beside Kamailio.
#[derive(Debug, Parser)]
struct Arguments {
    /// The router to measure. Without it only the echo server and Kamailio are measured.
    #[arg(long, requires = "viaduct_config")]
    viaduct: Option<PathBuf>,
    /// Its configuration. `@LISTEN@` in it is replaced by the address to listen on, `@STATE@` by a
    /// fresh folder, `@POLICIES@` by the policies folder.
    #[arg(long)]
    viaduct_config: Option<PathBuf>,
    /// Measure only these: echo, kamailio, viaduct; stores is the two of them with their stores;
    /// overload is the router asked for ten times what it can do; with --veth also viaduct-xdp.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure only this work: options, register, call; of stores: write, many.
    #[arg(long, value_delimiter = ',')]
    work: Vec<String>,
    /// Measurements of each, of which the median is printed.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Bindings of the work many.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    bindings: u32,
    /// How long the overload lasts, seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..=3_600))]
    seconds: u64,
    /// Multiplies the number of requests of a measurement, in percent.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scale: u32,
    /// Put the servers on a veth cable in a network namespace, and measure the router by AF_XDP
    /// too. Needs root, iproute2 and ethtool. Without the stores.
    #[arg(long)]
    veth: bool,
    /// Used by the benchmark itself: be the echo server on this address.
    #[arg(long, hide = true)]
    echo_server: Option<SocketAddr>,
    /// By AF_XDP.
    #[arg(long, hide = true, requires = "echo_server")]
    by_xdp: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(address) = arguments.echo_server {
        return if arguments.by_xdp { echo::serve_by_xdp(address) } else { echo::serve(address) };
    }
    ensure!(cpu::cores() >= 2, "the benchmark needs two cores: one for the server, one for itself");
    let cpu_work = Work::ALL.iter().any(|work| wanted(&arguments.work, work.name()));
    let of_cpu = |only: &String| !["stores", "overload"].contains(&only.as_str());
    let cpu_wanted = arguments.only.is_empty() || arguments.only.iter().any(of_cpu);
    if cpu_work && cpu_wanted {
        let all_cores = cpu::pin_to(subject::GENERATOR_CORE).context("pinning the generator")?;
        let place = if arguments.veth { Place::veth()? } else { Place::Loopback };
        let subjects = start_subjects(&arguments, &place)?;
        let before = distance::round_trip()?;
        let table = measure_all(&arguments, &place, &subjects)?;
        print!("{}", table.render());
        print!("{}", table::distance(before, distance::round_trip()?));
        drop(subjects);
        if let (Place::Veth(wire), Some(router)) = (&place, arguments.router())
            && wanted(&arguments.only, Kind::ViaductXdp.name())
        {
            print!("{}", handed::measure(wire, router.0)?);
        }
        cpu::allow(&all_cores)?;
    }
    if wanted(&arguments.only, "stores") && !arguments.veth {
        match arguments.router() {
            Some(router) => stores::measure(&arguments, router)?,
            None => println!("skipped: the stores, which need --viaduct"),
        }
    }
    if wanted(&arguments.only, "overload") && !arguments.veth {
        match arguments.router() {
            Some(router) => print!("{}", overload::measure(router, arguments.seconds)?.render()),
            None => println!("skipped: overload, which needs --viaduct"),
        }
    }
    Ok(())
}

impl Arguments {
    /// The router's program and its configuration.
    fn router(&self) -> Option<(&Path, &Path)> {
        self.viaduct.as_deref().zip(self.viaduct_config.as_deref())
    }
}

fn wanted(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one == name)
}

/// A server that is there all the time, or one that is started for each measurement.
enum Server {
    Running(Subject),
    /// By AF_XDP, the router or an echo server: its program would cost the others' packets something.
    Xdp(Kind),
}

impl Server {
    fn kind(&self) -> Kind {
        match self {
            Self::Running(subject) => subject.kind(),
            Self::Xdp(kind) => *kind,
        }
    }
}

fn start_subjects(arguments: &Arguments, place: &Place) -> Result<Vec<Server>> {
    let mut subjects = Vec::new();
    if wanted(&arguments.only, "echo") {
        subjects.push(Server::Running(Subject::echo(place, Kind::Echo)?));
        if arguments.veth {
            subjects.push(Server::Xdp(Kind::EchoXdp));
        }
    }
    if wanted(&arguments.only, "kamailio") {
        match Subject::kamailio(place)? {
            Some(subject) => subjects.push(Server::Running(subject)),
            None => println!("skipped: kamailio is not installed, so there are no ratios"),
        }
    }
    if let Some((binary, template)) = arguments.router() {
        if wanted(&arguments.only, Kind::Viaduct.name()) {
            let setup = Setup::new(place, binary, template)?;
            subjects.push(Server::Running(place.start(|| Subject::viaduct(&setup))?));
        }
        if arguments.veth && wanted(&arguments.only, Kind::ViaductXdp.name()) {
            subjects.push(Server::Xdp(Kind::ViaductXdp));
        }
    }
    Ok(subjects)
}

/// All measurements, interleaved: each server in turn, then the next round.
fn measure_all(arguments: &Arguments, place: &Place, subjects: &[Server]) -> Result<Table> {
    let works: Vec<Work> =
        Work::ALL.into_iter().filter(|work| wanted(&arguments.work, work.name())).collect();
    let mut table = Table::default();
    let fits = |work: Work, subject: &Server| (work == Work::Echo) == subject.kind().is_floor();
    let pairs = || works.iter().flat_map(|work| subjects.iter().map(move |one| (*work, one)));
    let total = pairs().filter(|(work, one)| fits(*work, one)).count() * arguments.runs as usize;
    let progress = table::Progress::new(total);
    for round in 1..=arguments.runs {
        for (work, subject) in pairs().filter(|(work, one)| fits(*work, one)) {
            progress.step(&format!(
                "{} {} {round}/{}",
                subject.kind().name(),
                work.name(),
                arguments.runs
            ));
            let fresh;
            let subject = match subject {
                Server::Running(subject) => subject,
                Server::Xdp(Kind::EchoXdp) => {
                    fresh = Subject::echo(place, Kind::EchoXdp)?;
                    &fresh
                }
                Server::Xdp(_) => {
                    let (binary, template) = arguments.router().context("--viaduct is missing")?;
                    let setup = Setup::new(place, binary, template)?.by_xdp();
                    fresh = place.start(|| Subject::viaduct(&setup))?;
                    &fresh
                }
            };
            let run = Run::measure(place, subject, work, arguments.scale)
                .with_context(|| format!("{} of {}", work.name(), subject.name()))
                .with_context(|| subject.log_tail())?;
            table.add(subject.kind(), work, run);
        }
    }
    progress.done();
    Ok(table)
}
