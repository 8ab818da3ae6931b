//! The wiring: location service, policies, resolver and worker threads made from a configuration,
//! and the [`Control`] over them.

mod destinations;
mod media;
mod numbers;
mod policies;
pub(crate) mod record;

pub(crate) use policies::parts_of;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use crossbeam_channel::Sender;
use viaduct_engine::auth::{Account, Auth, Credentials, Replay};
use viaduct_engine::dispatcher::{Dispatcher, Prober};
use viaduct_engine::path::PathKeys;
use viaduct_engine::table::Tables;
use viaduct_engine::{CommitFault, Engine, Event, Location, Settings, Transport};
use viaduct_location::{LocationService, Trouble};
use viaduct_media::xdp::Table;
use viaduct_policy::record::Header;
use viaduct_policy::{PolicyCatalog, WorkerOptions};
use viaduct_transport::{TcpConfig, UdpConfig, ensure_unused};

use self::media::Media;
use crate::config::{Config, listener_name, path_keys};
use crate::control::{
    AorEntry, AuthStatus, BanEntry, BindingEntry, Control, DestinationEntry, DestinationState,
    MediaCall, Page, PolicyEntry, PolicyOrder, PolicyParts, RecordPart, RecordRequest, Refusal,
    Status, UserEntry, UserOrder,
};
use crate::credentials::Users;
use crate::http::HttpClient;
use crate::metrics::{Gauge, LocationNumbers, Metrics};
use crate::packets::{Packets, choose_owners};
use crate::privileges::{Keeper, MEDIA, PACKETS, PACKETS_THAT_ASK};
use crate::resolve::Resolver;
use crate::worker::bound::BoundLocation;
use crate::worker::core::{Clock, Core, Surroundings};
use crate::worker::mail::{Address, Mail, Streams};
use crate::worker::pings::Pings;
use crate::worker::{Pulse, Sockets, Worker};

/// How often expired bindings are removed.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
/// AoRs one look for expired bindings removes at most; the next look goes on.
const EXPIRY_BUDGET: usize = 50_000;
/// How often a drain looks whether it is over.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// A worker's stack: its own frames and a policy's.
const WORKER_STACK: usize = 4 * 1024 * 1024;

/// What all workers are made from.
struct Shared<'a> {
    config: &'a Config,
    keys: PathKeys,
    auth: Option<Auth>,
    resolver: Resolver,
    streams: Arc<Streams>,
    events: Sender<Event>,
}

/// A running router.
pub struct Router {
    listeners: Vec<String>,
    mode: &'static str,
    workers: Arc<[Address]>,
    pulses: Vec<Arc<Pulse>>,
    streams: Arc<Streams>,
    /// Inodes of the UDP sockets, by which the kernel's table names them.
    udp_inodes: Vec<u64>,
    /// Turns seen by the last [`Control::is_alive`].
    seen: Mutex<Vec<u64>>,
    location: Arc<LocationService>,
    catalog: Arc<PolicyCatalog>,
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    users: Option<Arc<Users>>,
    http: HttpClient,
    /// Nonces that were used; kept over reloads.
    replay: Arc<Replay>,
    secret: [u8; 16],
    /// First line of records.
    record_header: Header,
    /// What policies of all workers share.
    shared: Mutex<viaduct_engine::Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    packets: Option<Packets>,
    media: Option<Media>,
    draining: AtomicBool,
    hurry: AtomicBool,
    started: Instant,
}

/// What this start of the router knows and nobody else.
fn draw_secret() -> anyhow::Result<[u8; 16]> {
    let mut secret = [0u8; 16];
    crate::random::fill(&mut secret).context("no randomness from the kernel")?;
    Ok(secret)
}

impl Router {
    /// Opens everything and starts the workers. Nothing is left running where it fails.
    pub fn start(
        config: &Config,
        metrics: Arc<Metrics>,
        runtime: tokio::runtime::Handle,
        events: Sender<Event>,
    ) -> anyhow::Result<Arc<Router>> {
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("state_dir {}", config.state_dir.display()))?;
        // Before any other thread is started, as threads inherit capabilities.
        let asks = config.media.as_ref().is_some_and(|media| media.steering.before_stack);
        let packets = if asks { PACKETS_THAT_ASK } else { PACKETS };
        let [keeper, for_media] =
            Keeper::start([packets, MEDIA]).context("no thread for packets")?;
        let clock = Arc::new(Clock::new());
        let keys = path_keys::load_or_create(&config.path_key_file)?;
        let secret = draw_secret()?;
        let open_users = |auth| Users::open(auth, runtime.clone());
        let users = config.auth.as_ref().map(open_users).transpose()?;
        let http = HttpClient::new(&config.http, runtime.clone())?;
        let replay = open_replay(config, clock.now().unix_ms)?;
        let catalog = policies::open(config)?;
        policies::warn_without_auth(users.is_some(), &catalog);
        let location = Arc::new(open_location(config, clock.now().unix_ms)?);
        // Buffers above the machine's limit take a capability, too.
        let opening = config.clone();
        let sockets =
            keeper.run(move || open_sockets(&opening)).context("no thread for packets")??;
        let workers: Arc<[Address]> = sockets.iter().map(Sockets::address).collect();
        if config.workers > 1 {
            choose_owners(&keeper, config.workers, sockets.iter().take(1).flat_map(Sockets::udp));
        }
        let (packets, table) = start_packets(config, &workers, keeper)?;
        let media = Media::open(config, &clock, table, events.clone(), for_media)?;
        let router = Arc::new(Router {
            listeners: config.listeners.iter().map(listener_name).collect(),
            mode: config.location.mode.name(),
            workers,
            pulses: sockets.iter().map(|_| Arc::default()).collect(),
            streams: Arc::new(Streams::new(config.location.drop_lost_tcp)),
            udp_inodes: numbers::inodes(sockets.iter().flat_map(Sockets::udp)),
            seen: Mutex::new(vec![0; sockets.len()]),
            location,
            catalog,
            metrics,
            clock,
            users,
            http,
            replay,
            secret,
            record_header: record::header(config),
            shared: Mutex::new(open_shared(config, media.as_ref())?),
            threads: Mutex::new(Vec::new()),
            packets,
            media,
            draining: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            started: Instant::now(),
        });
        router.watch();
        router.spawn_workers(config, keys, Resolver::new(runtime), events, sockets)?;
        router.probe(config);
        router.spawn_expiry()?;
        policies::spawn_guard(&router.catalog, &router.metrics, config.policy.guard)?;
        Ok(router)
    }

    fn packet_words(&self) -> String {
        self.packets.as_ref().map_or_else(|| "kernel sockets".to_owned(), Packets::words)
    }

    fn need_packets(&self) -> Result<&Packets, Refusal> {
        let none = "packets come by kernel sockets: only what comes by AF_XDP can be kept out";
        self.packets.as_ref().ok_or_else(|| Refusal::Conflict(none.to_owned()))
    }

    fn need_users(&self) -> Result<&Arc<Users>, Refusal> {
        let off = || Refusal::NotFound("no users are configured".to_owned());
        self.users.as_ref().ok_or_else(off)
    }

    fn policy_name(&self) -> String {
        self.catalog.live().map_or_else(
            || "none".to_owned(),
            |version| format!("{} {}", version.manifest().name, version.manifest().version),
        )
    }

    fn watch(self: &Arc<Self>) {
        let router = Arc::downgrade(self);
        self.metrics.watch_kept(move || router.upgrade().map(|r| r.kept()).unwrap_or_default());
        let location = Arc::clone(&self.location);
        self.metrics.watch_location(move || {
            let counts = location.counts();
            LocationNumbers {
                aors: counts.aors as u64,
                bindings: counts.bindings as u64,
                memory_bytes: counts.memory_bytes as u64,
                queued: counts.queued as u64,
                removals: counts.removals as u64,
                nodes: counts.nodes as u64,
                starts: counts.starts as u64,
                groups: counts.groups,
                writes: counts.writes,
                failures: counts.failures,
                store_down: location.trouble().is_some(),
            }
        });
        if let Some(packets) = &self.packets {
            self.metrics.watch_verdicts(packets.verdicts());
        }
        if let Some(media) = &self.media {
            media.watch(&self.metrics);
        }
        let http = self.http.clone();
        self.metrics.watch_http(move || http.outcomes());
        let catalog = Arc::clone(&self.catalog);
        self.metrics.watch_policies(move || policies::entries(catalog.list()));
    }

    fn spawn_workers(
        &self,
        config: &Config,
        keys: PathKeys,
        resolver: Resolver,
        events: Sender<Event>,
        sockets: Vec<Sockets>,
    ) -> anyhow::Result<()> {
        let (streams, auth) = (Arc::clone(&self.streams), self.engine_auth(config));
        let shared = Shared { config, keys, auth, resolver, streams, events };
        for (index, sockets) in sockets.into_iter().enumerate() {
            self.spawn_worker(&shared, index as u8, sockets)?;
        }
        Ok(())
    }

    fn spawn_worker(&self, shared: &Shared<'_>, index: u8, sockets: Sockets) -> anyhow::Result<()> {
        let mut seed = [0u8; 8];
        crate::random::fill(&mut seed).context("no randomness from the kernel")?;
        let (keys, auth) = (shared.keys.clone(), shared.auth.clone());
        let settings = self.settings(shared.config, index, keys, auth);
        let options = WorkerOptions { worker: usize::from(index), ..WorkerOptions::default() };
        let policy = self.catalog.worker(options)?;
        let (service, streams) = (Arc::clone(&self.location), Arc::clone(&shared.streams));
        let location: Arc<dyn Location> = match shared.config.location.drop_lost_tcp {
            true => Arc::new(BoundLocation::new(service, streams)),
            false => service,
        };
        let engine = Engine::new(settings, location, policy, u64::from_le_bytes(seed));
        let stats = self.metrics.worker(index).ok_or_else(|| anyhow!("no metrics for worker"))?;
        let around = Surroundings {
            index,
            workers: Arc::clone(&self.workers),
            location: Arc::clone(&self.location),
            resolver: shared.resolver.clone(),
            users: self.users.clone(),
            http: self.http.clone(),
            nodes: self.media.as_ref().and_then(Media::nodes),
            stats,
            streams: Arc::clone(&shared.streams),
            events: shared.events.clone(),
            offences: self.packets.as_ref().map(Packets::offences),
        };
        let pulse = self.pulses.get(usize::from(index)).map(Arc::clone).unwrap_or_default();
        let pings = Pings::new(&shared.config.keepalive, index, self.workers.len());
        let core = Core::new(engine, around, pings, self.clock.now());
        let worker = Worker::new(sockets, core, Arc::clone(&self.clock), pulse);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .stack_size(WORKER_STACK)
            .spawn(move || {
                if let Err(error) = worker.run() {
                    tracing::error!(%error, "a worker has ended");
                }
            })?;
        self.lock_threads().push(thread);
        Ok(())
    }

    fn settings(
        &self,
        config: &Config,
        index: u8,
        keys: PathKeys,
        auth: Option<Auth>,
    ) -> Arc<Settings> {
        let settings = config.settings(index, keys, auth, self.secret);
        Arc::new(Settings { shared: self.shared().clone(), ..settings })
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, viaduct_engine::Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dispatcher(&self) -> Arc<Dispatcher> {
        Arc::clone(&self.shared().dispatcher)
    }

    /// The first worker asks the destinations whether they live.
    fn probe(&self, config: &Config) {
        let dispatcher = self.dispatcher();
        let probing = config.dispatcher.probing.clone();
        let prober = Prober::new(dispatcher, probing, self.clock.now().mono_us);
        if let Some(first) = self.workers.first() {
            first.post_surely(Mail::Probe(prober));
        }
    }

    /// How the workers authenticate; `None`: they do not.
    fn engine_auth(&self, config: &Config) -> Option<Auth> {
        let (auth, users) = config.auth.as_ref().zip(self.users.as_ref())?;
        Some(Auth {
            realm: auth.realm.clone(),
            algorithms: auth.algorithms.clone(),
            auth_int: auth.auth_int,
            info: auth.info,
            nonce_life_ms: auth.nonce_life_s.saturating_mul(1000),
            replay: Arc::clone(&self.replay),
            credentials: Arc::<Users>::clone(users) as Arc<dyn Credentials>,
        })
    }

    fn spawn_expiry(self: &Arc<Router>) -> anyhow::Result<()> {
        let router = Arc::downgrade(self);
        std::thread::Builder::new().name("expiry".into()).spawn(move || {
            while let Some(router) = router.upgrade() {
                let now = router.clock.now().unix_ms;
                while router.location.expire(now, EXPIRY_BUDGET).len() >= EXPIRY_BUDGET {}
                drop(router);
                std::thread::sleep(EXPIRY_INTERVAL);
            }
        })?;
        Ok(())
    }

    fn lock_threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unanswered(&self) -> u64 {
        let counts = self.pulses.iter().map(|pulse| pulse.unanswered.load(Ordering::Relaxed));
        counts.fold(0, u64::saturating_add)
    }
}

/// Who brings packets in, and the table of the program that relays media in front of the stack.
fn start_packets(
    config: &Config,
    workers: &[Address],
    keeper: Keeper,
) -> anyhow::Result<(Option<Packets>, Option<Table>)> {
    let (program, table) = media::load_xdp(config.media.as_ref(), &keeper).unzip();
    Ok((Packets::start(config, workers, keeper, program)?, table))
}

fn open_shared(config: &Config, media: Option<&Media>) -> anyhow::Result<viaduct_engine::Shared> {
    let mut seed = [0u8; 8];
    crate::random::fill(&mut seed).context("no randomness from the kernel")?;
    Ok(viaduct_engine::Shared {
        tables: Arc::new(Tables::new(config.tables.entries, u64::from_le_bytes(seed))),
        dispatcher: Arc::new(config.dispatcher.build()),
        media: media.map(Media::relay),
    })
}

/// A database that cannot be reached is no reason not to route: it may be back any moment.
fn open_location(config: &Config, unix_ms: u64) -> anyhow::Result<LocationService> {
    let service = config.location.service();
    let service = viaduct_location::Config { start_without_store: true, ..service };
    Ok(LocationService::open(&service, unix_ms)?)
}

/// Trouble with the store, for people.
fn told(trouble: &Trouble) -> String {
    let empty = match trouble.not_loaded {
        true => "; its bindings are not loaded yet",
        false => "",
    };
    format!("{} (for {} s){empty}", trouble.fault, trouble.since.as_secs())
}

fn open_replay(config: &Config, unix_ms: u64) -> anyhow::Result<Arc<Replay>> {
    let mut seed = [0u8; 8];
    crate::random::fill(&mut seed).context("no randomness from the kernel")?;
    let most = config.auth.as_ref().map_or(1, |auth| auth.nonces);
    Ok(Arc::new(Replay::new(most, unix_ms, u64::from_le_bytes(seed))))
}

fn open_sockets(config: &Config) -> anyhow::Result<Vec<Sockets>> {
    for listener in &config.listeners {
        // Shared ports would let a second router take half of the first one's traffic.
        let stream = listener.transport.is_reliable();
        ensure_unused(listener.addr, stream).with_context(|| listener_name(listener))?;
    }
    let udp =
        UdpConfig { buffer_bytes: config.limits.udp_receive_buffer_bytes, ..UdpConfig::default() };
    let per_worker = |all: usize| all.div_ceil(usize::from(config.workers).max(1));
    let tcp = TcpConfig {
        limits: viaduct_message::Limits {
            message_bytes: config.limits.message_bytes,
            headers: config.limits.headers,
        },
        connections: per_worker(config.limits.tcp_connections),
        connections_per_source: config.limits.tcp_connections_per_source as u32,
        idle_us: config.limits.tcp_idle_s.saturating_mul(1_000_000),
        write_queue_bytes: config.limits.tcp_write_queue_bytes,
        ..TcpConfig::default()
    };
    let open = |index| Sockets::open(index, &config.listeners, udp, tcp);
    let opened: io::Result<Vec<Sockets>> = (0..config.workers).map(open).collect();
    opened.context("a listener cannot be opened")
}

impl Control for Router {
    fn status(&self) -> Status {
        let counts = self.location.counts();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            draining: self.draining.load(Ordering::Relaxed),
            listeners: self.listeners.clone(),
            packets: self.packet_words(),
            workers: self.workers.len(),
            policy: self.policy_name(),
            transactions: self.metrics.gauge(Gauge::Transactions),
            connections: self.metrics.gauge(Gauge::Connections),
            aors: counts.aors as u64,
            bindings: counts.bindings as u64,
            location: self.mode.to_owned(),
            media: self.media.as_ref().map(Media::words),
            store_trouble: self.location.trouble().map(|trouble| told(&trouble)),
        }
    }

    fn bindings(&self, table: &str, aor: &str) -> Option<AorEntry> {
        let set = self.location.get(table, aor.as_bytes())?;
        Some(entry(aor.as_bytes(), &set, self.clock.now().unix_ms))
            .filter(|entry| !entry.bindings.is_empty())
    }

    fn page(&self, table: &str, cursor: usize, about: usize) -> Page {
        let (records, next) = self.location.page(Some(table), cursor, about);
        let now = self.clock.now().unix_ms;
        let entries = records.iter().map(|(key, set)| entry(&key.aor, set, now));
        Page { entries: entries.filter(|entry| !entry.bindings.is_empty()).collect(), next }
    }

    fn remove(&self, table: &str, aor: &str, contact: Option<&str>) -> Result<usize, Refusal> {
        let contact = contact.map(str::as_bytes);
        self.location.remove(table, aor.as_bytes(), contact).map_err(|fault| match fault {
            CommitFault::Conflict => Refusal::Conflict(fault.to_string()),
            CommitFault::Store | CommitFault::Full => Refusal::Failed(fault.to_string()),
        })
    }

    fn policies(&self) -> Vec<PolicyEntry> {
        policies::entries(self.catalog.list())
    }

    fn change_policy(&self, order: PolicyOrder) -> Result<PolicyEntry, Refusal> {
        policies::change(&self.catalog, &self.metrics, order, self.users.is_some())
    }

    fn policy_too_large(&self) {
        policies::tell_refused(&self.metrics, "size", &"longer than a component may be");
    }

    fn policy_parts(&self, serial: u64) -> Result<PolicyParts, Refusal> {
        policies::parts(&self.catalog, serial)
    }

    fn record(&self, request: &RecordRequest) -> Result<Header, Refusal> {
        record::begin(&self.catalog, &self.workers, request, self.clock.now().unix_ms)?;
        Ok(self.record_header.clone())
    }

    fn take_record(&self, stop: bool) -> Result<RecordPart, Refusal> {
        record::take(&self.catalog, &self.workers, stop, self.clock.now().unix_ms)
    }

    fn auth(&self) -> AuthStatus {
        self.users.as_ref().map(|users| users.status()).unwrap_or_default()
    }

    fn flush_auth(&self, user: Option<(&str, &str)>) -> Result<usize, Refusal> {
        Ok(self.need_users()?.flush(user.map(account).as_ref()))
    }

    fn users(&self, after: Option<(&str, &str)>, most: usize) -> Result<Vec<UserEntry>, Refusal> {
        self.need_users()?.list(after.map(account).as_ref(), most)
    }

    fn change_user(&self, user: (&str, &str), order: UserOrder) -> Result<(), Refusal> {
        self.need_users()?.change(&account(user), &order)
    }

    fn ban(&self, source: IpAddr, seconds: u64) -> Result<(), Refusal> {
        self.need_packets()?.ban(source, seconds)
    }

    fn unban(&self, source: IpAddr) -> Result<bool, Refusal> {
        self.need_packets()?.unban(source)
    }

    fn bans(&self) -> Result<Vec<BanEntry>, Refusal> {
        self.need_packets()?.bans()
    }

    fn media_calls(&self) -> Result<Vec<MediaCall>, Refusal> {
        media::list(self.media.as_ref(), &self.clock)
    }

    fn media_call(&self, call_id: &str) -> Result<Vec<MediaCall>, Refusal> {
        media::show(self.media.as_ref(), &self.clock, call_id)
    }

    fn kill_media(&self, call_id: &str) -> Result<usize, Refusal> {
        media::kill(self.media.as_ref(), &self.clock, call_id)
    }

    fn destinations(&self) -> Vec<DestinationEntry> {
        destinations::entries(&self.dispatcher())
    }

    fn set_destination(
        &self,
        set: &str,
        uri: &str,
        state: DestinationState,
    ) -> Result<DestinationEntry, Refusal> {
        destinations::set_state(&self.dispatcher(), set, uri, state)
    }

    fn reload(&self, config: &Config) -> Result<(), Refusal> {
        let keys = path_keys::load_or_create(&config.path_key_file)
            .map_err(|fault| Refusal::Invalid(fault.to_string()))?;
        if let (Some(users), Some(auth)) = (&self.users, &config.auth) {
            users.reload(auth).map_err(|fault| Refusal::Invalid(format!("{fault:#}")))?;
        }
        let auth = self.engine_auth(config);
        {
            let mut shared = self.shared();
            let dispatcher = config.dispatcher.build().succeeding(&shared.dispatcher);
            shared.dispatcher = Arc::new(dispatcher);
        }
        for (index, worker) in self.workers.iter().enumerate() {
            let settings = self.settings(config, index as u8, keys.clone(), auth.clone());
            worker.post_surely(Mail::Reconfigure(settings));
        }
        self.probe(config);
        Ok(())
    }

    fn is_alive(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alive = true;
        for (seen, pulse) in seen.iter_mut().zip(&self.pulses) {
            let turns = pulse.turns.load(Ordering::Relaxed);
            alive &= turns != *seen;
            *seen = turns;
        }
        alive
    }

    fn drain(&self, grace: Duration) -> usize {
        if self.draining.swap(true, Ordering::SeqCst) {
            return 0;
        }
        for (worker, pulse) in self.workers.iter().zip(&self.pulses) {
            // Unknown until the worker has counted once.
            pulse.unanswered.store(u64::MAX, Ordering::Relaxed);
            worker.post_surely(Mail::Drain);
        }
        let end = Instant::now() + grace;
        while self.unanswered() > 0 && Instant::now() < end && !self.hurry.load(Ordering::Relaxed) {
            std::thread::sleep(DRAIN_LOOK);
        }
        let left = usize::try_from(self.unanswered()).unwrap_or(0);
        if let Some(packets) = &self.packets {
            packets.stop();
        }
        for worker in self.workers.iter() {
            worker.post_surely(Mail::Stop);
        }
        for thread in self.lock_threads().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker has panicked");
            }
        }
        if let Some(media) = &self.media {
            media.close(self.clock.now());
        }
        self.location.close();
        left
    }

    fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }
}

fn account((user, realm): (&str, &str)) -> Account {
    Account { realm: realm.into(), user: user.into() }
}

fn entry(aor: &[u8], set: &viaduct_engine::registrar::BindingSet, unix_ms: u64) -> AorEntry {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let bindings = set.live(unix_ms).map(|binding| {
        let fields = binding.fields();
        BindingEntry {
            contact: text(fields.contact),
            expires_s: fields.expires_ms.saturating_sub(unix_ms) / 1000,
            q_milli: fields.q_milli,
            path: text(fields.path),
            received: text(fields.received),
            instance: text(fields.instance),
            user_agent: text(fields.user_agent),
            call_id: text(fields.call_id),
            cseq: fields.cseq,
            transport: Transport::param_name(fields.transport).to_owned(),
            reg_id: fields.reg_id,
            latency_us: binding.ping_us(),
            attributes: text(fields.attributes),
        }
    });
    AorEntry { aor: text(aor), bindings: bindings.collect() }
}
