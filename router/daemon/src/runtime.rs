//! The wiring: location service, policies, resolver and worker threads made from a configuration,
//! and the [`Control`] over them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use crossbeam_channel::Sender;
use viaduct_engine::auth::{Account, Auth, Credentials, Replay};
use viaduct_engine::path::PathKeys;
use viaduct_engine::{CommitFault, Engine, Event, Location, Transport};
use viaduct_location::{LocationService, Trouble};
use viaduct_policy::{CatalogError, PolicyCatalog, PolicyInfo, WorkerOptions};
use viaduct_transport::{TcpConfig, UdpConfig, ensure_unused};

use crate::config::{Config, listener_name, path_keys};
use crate::control::{
    AorEntry, AuthStatus, BindingEntry, Control, Page, PolicyEntry, Refusal, Status,
};
use crate::credentials::Users;
use crate::metrics::{Gauge, LocationNumbers, Metrics};
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
    /// Turns seen by the last [`Control::is_alive`].
    seen: Mutex<Vec<u64>>,
    location: Arc<LocationService>,
    catalog: Arc<PolicyCatalog>,
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    users: Option<Arc<Users>>,
    /// Nonces that were used; kept over reloads.
    replay: Arc<Replay>,
    secret: [u8; 16],
    threads: Mutex<Vec<JoinHandle<()>>>,
    draining: AtomicBool,
    hurry: AtomicBool,
    started: Instant,
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
        let clock = Arc::new(Clock::new());
        let keys = path_keys::load_or_create(&config.path_key_file)?;
        let mut secret = [0u8; 16];
        crate::random::fill(&mut secret).context("no randomness from the kernel")?;
        let users = match &config.auth {
            Some(auth) => Some(Users::open(auth, runtime.clone())?),
            None => None,
        };
        let replay = open_replay(config, clock.now().unix_ms)?;
        let catalog = open_policies(config)?;
        warn_of_policy_without_auth(users.is_some(), &catalog);
        let location = Arc::new(open_location(config, clock.now().unix_ms)?);
        let sockets = open_sockets(config)?;
        let workers: Arc<[Address]> = sockets.iter().map(Sockets::address).collect();
        let router = Arc::new(Router {
            listeners: config.listeners.iter().map(listener_name).collect(),
            mode: config.location.mode.name(),
            workers,
            pulses: sockets.iter().map(|_| Arc::default()).collect(),
            seen: Mutex::new(vec![0; sockets.len()]),
            location,
            catalog,
            metrics,
            clock,
            users,
            replay,
            secret,
            threads: Mutex::new(Vec::new()),
            draining: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            started: Instant::now(),
        });
        router.watch();
        let resolver = Resolver::new(runtime);
        let streams = Arc::new(Streams::new(config.location.drop_lost_tcp));
        let auth = router.engine_auth(config);
        let shared = Shared { config, keys, auth, resolver, streams, events };
        for (index, sockets) in sockets.into_iter().enumerate() {
            router.spawn_worker(&shared, index as u8, sockets)?;
        }
        router.spawn_expiry()?;
        Ok(router)
    }

    fn policy_name(&self) -> String {
        self.catalog.live().map_or_else(
            || "none".to_owned(),
            |version| format!("{} {}", version.manifest().name, version.manifest().version),
        )
    }

    fn watch(&self) {
        let location = Arc::clone(&self.location);
        self.metrics.watch_location(move || {
            let counts = location.counts();
            LocationNumbers {
                aors: counts.aors as u64,
                bindings: counts.bindings as u64,
                memory_bytes: counts.memory_bytes as u64,
                queued: counts.queued as u64,
                groups: counts.groups,
                writes: counts.writes,
                failures: counts.failures,
                store_down: location.trouble().is_some(),
            }
        });
        let catalog = Arc::clone(&self.catalog);
        self.metrics.watch_policies(move || entries(catalog.list()));
    }

    fn spawn_worker(&self, shared: &Shared<'_>, index: u8, sockets: Sockets) -> anyhow::Result<()> {
        let mut seed = [0u8; 8];
        crate::random::fill(&mut seed).context("no randomness from the kernel")?;
        let settings = Arc::new(shared.config.settings(
            index,
            shared.keys.clone(),
            shared.auth.clone(),
            self.secret,
        ));
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
            stats,
            streams: Arc::clone(&shared.streams),
            events: shared.events.clone(),
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

/// The deployed policies. The configured component is deployed where it is new: never taken before,
/// or built again since. Otherwise what was deployed last stays, whatever its origin.
fn open_policies(config: &Config) -> anyhow::Result<Arc<PolicyCatalog>> {
    let catalog = PolicyCatalog::open(&config.policy.deployed_dir)?;
    let file = &config.policy.file;
    let taken = config.state_dir.join("policy-file.wasm");
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        // It may be gone once it has been deployed.
        Err(_) if catalog.live().is_some() => return Ok(catalog),
        Err(error) => return Err(error).with_context(|| format!("policy.file {}", file.display())),
    };
    let known = std::fs::read(&taken).is_ok_and(|last| last == bytes);
    if !known || catalog.live().is_none() {
        catalog.deploy(&bytes).with_context(|| format!("policy {}", file.display()))?;
        let draft = taken.with_extension("new");
        std::fs::write(&draft, &bytes)
            .and_then(|()| std::fs::rename(&draft, &taken))
            .with_context(|| format!("{}", taken.display()))?;
    }
    Ok(catalog)
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

/// Users protect nothing where the policy does not ask who sends a request.
fn warn_of_policy_without_auth(users: bool, catalog: &PolicyCatalog) {
    use viaduct_policy::manifest::Interface;
    let Some(live) = catalog.live().filter(|_| users) else { return };
    if !live.manifest().grants.allows(Interface::Auth) {
        let policy = &live.manifest().name;
        tracing::warn!(
            target: "viaduct::auth", %policy,
            "[auth] has users, but the policy has no grant `auth`: it authenticates nobody"
        );
    }
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
            packets: "kernel sockets".to_owned(),
            workers: self.workers.len(),
            policy: self.policy_name(),
            transactions: self.metrics.gauge(Gauge::Transactions),
            connections: self.metrics.gauge(Gauge::Connections),
            aors: counts.aors as u64,
            bindings: counts.bindings as u64,
            location: self.mode.to_owned(),
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
        entries(self.catalog.list())
    }

    fn deploy(&self, component: Vec<u8>) -> Result<PolicyEntry, Refusal> {
        let deployed = self.catalog.deploy(&component).map_err(refusal)?;
        tracing::info!(policy = deployed.name, version = deployed.version, "deployed");
        warn_of_policy_without_auth(self.users.is_some(), &self.catalog);
        self.entry_of(deployed.serial)
    }

    fn rollback(&self) -> Result<PolicyEntry, Refusal> {
        let deployed = self.catalog.rollback().map_err(refusal)?;
        tracing::info!(policy = deployed.name, version = deployed.version, "rolled back");
        warn_of_policy_without_auth(self.users.is_some(), &self.catalog);
        self.entry_of(deployed.serial)
    }

    fn auth(&self) -> AuthStatus {
        self.users.as_ref().map(|users| users.status()).unwrap_or_default()
    }

    fn flush_auth(&self, user: Option<(&str, &str)>) -> Result<usize, Refusal> {
        let off = || Refusal::NotFound("no users are configured".to_owned());
        let users = self.users.as_ref().ok_or_else(off)?;
        let account = user.map(|(user, realm)| Account { realm: realm.into(), user: user.into() });
        Ok(users.flush(account.as_ref()))
    }

    fn reload(&self, config: &Config) -> Result<(), Refusal> {
        let keys = path_keys::load_or_create(&config.path_key_file)
            .map_err(|fault| Refusal::Invalid(fault.to_string()))?;
        if let (Some(users), Some(auth)) = (&self.users, &config.auth) {
            users.reload(auth).map_err(|fault| Refusal::Invalid(format!("{fault:#}")))?;
        }
        let auth = self.engine_auth(config);
        for (index, worker) in self.workers.iter().enumerate() {
            let settings = config.settings(index as u8, keys.clone(), auth.clone(), self.secret);
            worker.post_surely(Mail::Reconfigure(Arc::new(settings)));
        }
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
        for worker in self.workers.iter() {
            worker.post_surely(Mail::Stop);
        }
        for thread in self.lock_threads().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker has panicked");
            }
        }
        self.location.close();
        left
    }

    fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }
}

impl Router {
    fn entry_of(&self, serial: u64) -> Result<PolicyEntry, Refusal> {
        let found = self.policies().into_iter().find(|entry| entry.serial == serial);
        found.ok_or_else(|| Refusal::Failed("the version is gone".to_owned()))
    }
}

fn refusal(error: CatalogError) -> Refusal {
    match error {
        CatalogError::Load(error) => Refusal::Invalid(error.to_string()),
        CatalogError::NothingEarlier | CatalogError::Empty => Refusal::Conflict(error.to_string()),
        CatalogError::NoSuchVersion(_) => Refusal::NotFound(error.to_string()),
        error => Refusal::Failed(error.to_string()),
    }
}

fn entries(infos: Vec<PolicyInfo>) -> Vec<PolicyEntry> {
    let entry = |info: PolicyInfo| PolicyEntry {
        serial: info.serial,
        name: info.name,
        version: info.version,
        hash: info.hash,
        live: info.live,
        next_rollback: info.next_rollback,
        loaded: info.loaded,
        runs: info.counts.runs,
        failures: info.counts.failures(),
        last_failure: info.last_failure,
    };
    infos.into_iter().map(entry).collect()
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
