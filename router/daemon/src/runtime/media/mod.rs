//! The media relay of a router: opened, looked after, asked. It is this machine's own, or nodes
//! elsewhere.

mod file;
mod nodes;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Sender;
use viaduct_engine::media::{LegView, StreamView};
use viaduct_engine::{Event, Now};
use viaduct_media::executor::Carrying;
use viaduct_media::fallback::{FallbackRelay, Module};
use viaduct_media::kernel::{KernelRelay, Owner, Steering};
use viaduct_media::ng::NgRelay;
use viaduct_media::service::{CallEntry, Journal, Key, Numbers, Restored};
use viaduct_media::userspace::UserspaceRelay;
use viaduct_media::xdp::{self, XdpRelay};
use viaduct_media::{Executor, Service};

use self::file::{Kept, KeptFile};
use self::nodes::Nodes;
use crate::config::{Config, KernelUse, MediaConfig};
use crate::control::{MediaCall, MediaLeg, MediaStream, Refusal};
use crate::metrics::Metrics;
use crate::privileges::Keeper;
use crate::worker::core::Clock;

/// How often calls are looked after.
const TURN: Duration = Duration::from_secs(1);
/// Calls of one list.
const MOST_LISTED: usize = 10_000;

/// The relay of a router.
pub(super) enum Media {
    /// Of this machine.
    Here(Here),
    /// Nodes elsewhere.
    Nodes(Nodes),
}

/// The relay of this machine.
pub(super) struct Here {
    service: Arc<Service>,
    file: Arc<KeptFile>,
    kernel: KernelUse,
}

impl Media {
    /// Opens the relay; `None`: the configuration has none. `keeper` may speak to the kernel module;
    /// with `table`, the program behind it has settled sessions.
    pub(super) fn open(
        whole: &Config,
        clock: &Arc<Clock>,
        table: Option<xdp::Table>,
        events: Sender<Event>,
        keeper: Keeper,
    ) -> anyhow::Result<Option<Media>> {
        if let Some(config) = &whole.rtpengine {
            let nodes = Nodes::open(config, &whole.state_dir, clock, events)?;
            return Ok(Some(Media::Nodes(nodes)));
        }
        Ok(Here::open(whole, clock, table, events, keeper)?.map(Media::Here))
    }

    /// What the engine asks.
    pub(super) fn relay(&self) -> Arc<dyn viaduct_engine::media::Media> {
        match self {
            Media::Here(here) => Arc::<Service>::clone(&here.service),
            Media::Nodes(nodes) => Arc::<NgRelay>::clone(&nodes.relay),
        }
    }

    /// Who asks nodes elsewhere.
    pub(super) fn nodes(&self) -> Option<Arc<NgRelay>> {
        match self {
            Media::Here(_) => None,
            Media::Nodes(nodes) => Some(Arc::clone(&nodes.relay)),
        }
    }

    /// What relays, and how much: a line for people.
    pub(super) fn words(&self) -> String {
        match self {
            Media::Here(here) => here.words(),
            Media::Nodes(nodes) => nodes.words(),
        }
    }

    /// Tells who knows the counters.
    pub(super) fn watch(&self, metrics: &Metrics) {
        match self {
            Media::Here(here) => metrics.watch_media(here.numbers()),
            Media::Nodes(nodes) => {
                metrics.watch_media(nodes.numbers());
                let relay = Arc::clone(&nodes.relay);
                metrics.watch_media_nodes(move || relay.numbers());
            }
        }
    }

    /// The router ends. Calls wait for the next one; those of nodes go on there.
    pub(super) fn close(&self, now: Now) {
        match self {
            Media::Here(here) => here.close(now),
            Media::Nodes(nodes) => nodes.close(),
        }
    }
}

impl Here {
    /// Goes on with the calls an earlier process has kept in the state folder, and looks after them.
    fn open(
        whole: &Config,
        clock: &Arc<Clock>,
        table: Option<xdp::Table>,
        events: Sender<Event>,
        keeper: Keeper,
    ) -> anyhow::Result<Option<Here>> {
        let Some(config) = &whole.media else { return Ok(None) };
        for interface in &config.service.interfaces {
            // What cannot be bound now would fail call by call.
            UdpSocket::bind(SocketAddr::new(interface.ip, 0))
                .with_context(|| format!("media.address `{}`: {}", interface.name, interface.ip))?;
        }
        let (file, kept) = KeptFile::open(&whole.state_dir.join("media.redb"))?;
        let file = Arc::new(file);
        let (executor, module) = executor(config.kernel, keeper)?;
        let executor = in_front(executor, table);
        // A queue that is full counts what it loses, as for the workers.
        let sink = move |record| drop(events.try_send(Event::MediaEnded(Box::new(record))));
        let service = Service::new(config.service.clone(), executor, Box::new(sink))?;
        let owner = Owner { id: owner(&kept, &file)?, grace_s: config.service.grace_s };
        let journal = Arc::clone(&file) as Arc<dyn Journal>;
        let Restored { calls, ended, unreadable } = service.keep(clock.now(), journal, kept);
        if calls + ended + unreadable > 0 {
            tracing::info!(target: "viaduct::media", calls, ended, unreadable, "calls go on");
        }
        module.apply(config.kernel, owner, &config.steering)?;
        let service = Arc::new(service);
        watch(&service, clock)?;
        Ok(Some(Here { service, file, kernel: config.kernel }))
    }

    /// `kernel module, 12 sessions`; `user space, 12 sessions: the kernel module is not loaded`;
    /// `XDP, 12 sessions; ...` where the program in front of the stack has some.
    fn words(&self) -> String {
        let Carrying { xdp, kernel, userspace, has_kernel, why, .. } = self.service.carrying();
        let others = match (self.kernel, has_kernel) {
            (KernelUse::Off, _) => format!("user space, {userspace} sessions: kernel = \"off\""),
            (_, false) => format!("user space, {userspace} sessions: {why}"),
            (_, true) if userspace == 0 => format!("kernel module, {kernel} sessions"),
            (_, true) => {
                format!("kernel module, {kernel} sessions; {userspace} more in user space")
            }
        };
        if xdp == 0 { others } else { format!("XDP, {xdp} sessions; {others}") }
    }

    /// Who knows the counters.
    fn numbers(&self) -> impl Fn() -> Numbers + Send + Sync + 'static {
        let (service, file) = (Arc::clone(&self.service), Arc::clone(&self.file));
        move || Numbers { kept: file.kept(), ..service.numbers() }
    }

    fn close(&self, now: Now) {
        self.service.close(now);
        self.file.close();
    }
}

/// Loads the program that relays in front of the stack, where that is wished and can be had;
/// otherwise the others do it.
pub(super) fn load_xdp(
    config: Option<&MediaConfig>,
    keeper: &Keeper,
) -> Option<(xdp::Program, xdp::Table)> {
    let config = config.filter(|config| config.xdp)?;
    // Two legs for RTP and two for RTCP.
    let legs = u32::try_from(config.service.calls.saturating_mul(4)).unwrap_or(u32::MAX);
    match keeper.run(move || xdp::load(legs))? {
        Ok(loaded) => Some(loaded),
        Err(fault) => {
            tracing::info!(target: "viaduct::media", %fault, "no relay in XDP");
            None
        }
    }
}

fn in_front(executor: Box<dyn Executor>, table: Option<xdp::Table>) -> Box<dyn Executor> {
    match table {
        Some(table) => Box::new(XdpRelay::over(executor, table)),
        None => executor,
    }
}

/// Who speaks to the module.
enum ModuleUse {
    Through(Module),
    /// What an earlier process has left there is all that matters.
    Never(Keeper),
}

/// What relays, without the module yet.
fn executor(kernel: KernelUse, keeper: Keeper) -> anyhow::Result<(Box<dyn Executor>, ModuleUse)> {
    const FAILED: &str = "the media relay cannot start";
    if kernel == KernelUse::Off {
        let relay = UserspaceRelay::start().context(FAILED)?;
        return Ok((Box::new(relay), ModuleUse::Never(keeper)));
    }
    let relay = FallbackRelay::start(|work| Ok(keeper.end_with(work))).context(FAILED)?;
    let module = ModuleUse::Through(relay.module());
    Ok((Box::new(relay), module))
}

impl ModuleUse {
    fn apply(self, kernel: KernelUse, owner: Owner, steering: &Steering) -> anyhow::Result<()> {
        if let ModuleUse::Through(module) = &self {
            module.steer(steering.clone());
        }
        match self {
            ModuleUse::Never(keeper) => {
                // They would go on taking packets until their time is up.
                keeper.run(move || KernelRelay::attach(owner).and_then(KernelRelay::detach).ok());
            }
            ModuleUse::Through(module) => match module.use_as(owner) {
                Err(error) if kernel == KernelUse::Required => {
                    anyhow::bail!("media.kernel = \"required\": {error}");
                }
                Err(error) => {
                    let why = error.to_string();
                    tracing::info!(target: "viaduct::media", why, "media are relayed in user space");
                }
                Ok(()) => {}
            },
        }
        Ok(())
    }
}

/// Whose the sessions in the module are: the same from one process to the next.
fn owner(kept: &Kept, file: &KeptFile) -> anyhow::Result<u64> {
    let known = kept.iter().find(|(key, _)| *key == Key::Owner.octets());
    if let Some(octets) = known.and_then(|(_, value)| value.as_slice().try_into().ok()) {
        return Ok(u64::from_le_bytes(octets));
    }
    let mut octets = [0u8; 8];
    crate::random::fill(&mut octets).context("no randomness from the kernel")?;
    // Nobody is 0.
    octets[0] |= 1;
    file.put(Key::Owner, octets.to_vec());
    Ok(u64::from_le_bytes(octets))
}

/// Looks after the calls on a thread of its own, as long as the relay is there.
fn watch(service: &Arc<Service>, clock: &Arc<Clock>) -> anyhow::Result<()> {
    let (service, clock): (Weak<Service>, _) = (Arc::downgrade(service), Arc::clone(clock));
    std::thread::Builder::new().name("media-watch".into()).spawn(move || {
        while let Some(service) = service.upgrade() {
            service.tick(clock.now());
            drop(service);
            std::thread::sleep(TURN);
        }
    })?;
    Ok(())
}

pub(super) fn list(media: Option<&Media>, clock: &Clock) -> Result<Vec<MediaCall>, Refusal> {
    let calls = match need(media)? {
        Media::Here(here) => here.service.list(clock.now(), MOST_LISTED),
        Media::Nodes(nodes) => nodes.relay.list(MOST_LISTED),
    };
    Ok(calls.iter().map(entry).collect())
}

pub(super) fn show(
    media: Option<&Media>,
    clock: &Clock,
    call_id: &str,
) -> Result<Vec<MediaCall>, Refusal> {
    let calls = match need(media)? {
        Media::Here(here) => here.service.show(clock.now(), call_id.as_bytes()),
        Media::Nodes(nodes) => nodes.relay.show(call_id.as_bytes()),
    };
    if calls.is_empty() {
        return Err(unknown(call_id));
    }
    Ok(calls.iter().map(entry).collect())
}

pub(super) fn kill(media: Option<&Media>, clock: &Clock, call_id: &str) -> Result<usize, Refusal> {
    let ended = match need(media)? {
        Media::Here(here) => here.service.kill(clock.now(), call_id.as_bytes()),
        Media::Nodes(nodes) => nodes.relay.kill(call_id.as_bytes()),
    };
    if ended == 0 { Err(unknown(call_id)) } else { Ok(ended) }
}

fn need(media: Option<&Media>) -> Result<&Media, Refusal> {
    let none = "the configuration has no [[media.address]] and no media nodes";
    media.ok_or_else(|| Refusal::Conflict(none.to_owned()))
}

fn unknown(call_id: &str) -> Refusal {
    Refusal::NotFound(format!("no media are relayed for Call-ID {call_id:?}"))
}

fn entry(call: &CallEntry) -> MediaCall {
    MediaCall {
        call_id: call.call_id.to_string(),
        caller_tag: call.caller_tag.to_string(),
        callee_tag: call.callee_tag.to_string(),
        age_s: call.view.age_s,
        answered: call.view.answered,
        node: call.node.map(|node| node.to_string()),
        streams: call.view.streams.iter().map(stream).collect(),
    }
}

fn stream(view: &StreamView) -> MediaStream {
    MediaStream {
        kind: view.kind.to_string(),
        carrier: view.carrier.word().to_owned(),
        caller: leg(&view.caller),
        callee: leg(&view.callee),
    }
}

fn leg(view: &LegView) -> MediaLeg {
    MediaLeg {
        local: view.local.to_string(),
        peer: view.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        locked: view.locked,
        packets: view.packets,
        octets: view.octets,
        dropped: view.dropped,
        lost: view.lost,
        jitter_us: view.jitter_us,
        mos: view.mos_centi.map(|mos| f64::from(mos) / 100.0),
    }
}
