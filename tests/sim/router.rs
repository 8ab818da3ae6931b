//! A router of the simulation: the real engine, the shipped policy, the real location service, the
//! real control side of the media relay.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use viaduct_engine::media::Media;
use viaduct_engine::path::PathKeys;
use viaduct_engine::registrar::Registrar;
use viaduct_engine::{
    AorKey, Bounds, Change, ConnId, Engine, Event, Flow, Input, Listener, Location, Network, Now,
    Output, Settings, Shared, TimerValues, Token, Transport,
};
use viaduct_location::{Config, LocationService, drop_bindings};
use viaduct_media::Service;
use viaduct_policy::PolicyCatalog;

use crate::dice::Dice;
use crate::policy::{Role, Watch, Watched};
use crate::relay::{self, Rig};
use crate::store::{self, Disk, Handle, News, Order};
use crate::streams::Stream;

/// The calendar when a simulation begins, milliseconds since 1970.
pub(crate) const START_MS: u64 = 1_800_000_000_000;
/// The domain of all users.
pub(crate) const DOMAIN: &str = "example.com";
/// The store's thread is looked at so often, and so many times: if it has said nothing by then, the
/// simulation stands still.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: usize = 20_000;

/// What a router sends.
pub(crate) struct Sent {
    pub(crate) flow: Flow,
    /// Whom to tell where it cannot go.
    pub(crate) token: Token,
    /// A stream may be opened for it.
    pub(crate) may_open: bool,
    pub(crate) bytes: Vec<u8>,
}

/// What survives a crash.
pub(crate) struct Router {
    pub(crate) role: Role,
    pub(crate) watch: Arc<Watch>,
    pub(crate) catalog: Arc<PolicyCatalog>,
    /// How far its calendar is off, milliseconds.
    pub(crate) off_ms: i64,
    /// How often it has started.
    pub(crate) lives: u64,
    /// What carries its media, and for how many calls.
    pub(crate) rig: Option<(Rig, u16)>,
    /// When media of calls were last lost: not by their calls' end.
    pub(crate) media_lost_us: Option<u64>,
    disk: Disk,
    seed: u64,
    up: Option<Up>,
}

/// What does not.
struct Up {
    engine: Engine<Watched>,
    location: Arc<LocationService>,
    media: Option<Arc<Service>>,
    watch: Arc<Watch>,
    store: Handle,
    /// A write waits for its order.
    writing: bool,
    /// AoRs with a binding that ends with its stream, by open stream.
    bound: BTreeMap<ConnId, Vec<AorKey>>,
    /// Commits that have not ended.
    waiting: usize,
    /// There may be removals of what has expired in the queue.
    forgetting: bool,
    deadline_us: Option<u64>,
    began_us: u64,
}

/// What is left to do after an input.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) sent: Vec<Sent>,
    /// The store began a write: say how it ends, later.
    pub(crate) writing: bool,
    /// A policy run failed.
    pub(crate) policy_failures: usize,
}

impl Router {
    pub(crate) fn new(role: Role, seed: u64, catalog: Arc<PolicyCatalog>) -> Router {
        Router {
            role,
            watch: Arc::default(),
            catalog,
            off_ms: 0,
            lives: 0,
            rig: None,
            media_lost_us: None,
            disk: Disk::default(),
            seed,
            up: None,
        }
    }

    /// The time as this router sees it.
    pub(crate) fn now(&self, now_us: u64) -> Now {
        let began_us = self.up.as_ref().map_or(now_us, |up| up.began_us);
        let true_ms = START_MS + now_us / 1000;
        Now { mono_us: now_us - began_us, unix_ms: true_ms.saturating_add_signed(self.off_ms) }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// When it wants to be woken.
    pub(crate) fn deadline_us(&self) -> Option<u64> {
        let up = self.up.as_ref()?;
        up.deadline_us.map(|deadline| deadline + up.began_us)
    }

    /// Transactions under way; 0 where it is down.
    pub(crate) fn transactions(&self) -> usize {
        self.up.as_ref().map_or(0, |up| up.engine.transactions())
    }

    /// What look-ups see.
    pub(crate) fn location(&self) -> Option<&LocationService> {
        self.up.as_ref().map(|up| &*up.location)
    }

    /// The control side of its media relay.
    pub(crate) fn media(&self) -> Option<&Service> {
        self.up.as_ref().and_then(|up| up.media.as_deref())
    }

    /// Looks after its media, as the daemon does once a second.
    pub(crate) fn look_after_media(&self, now_us: u64) {
        let Some((rig, _)) = &self.rig else { return };
        rig.set_now(now_us);
        self.media().into_iter().for_each(|media| media.tick(self.now(now_us)));
    }

    /// Goes on with the media of the life before.
    fn start_media(&mut self, now_us: u64, mut dice: Dice) -> Result<Option<Arc<Service>>> {
        let Some((rig, calls)) = &self.rig else { return Ok(None) };
        rig.set_now(now_us);
        let kept = rig.start();
        let (executor, journal) = (Box::new(rig.clone()), Arc::new(rig.clone()));
        let media = Service::new(relay::config(*calls), executor, Box::new(drop))?;
        let media = media.drawing(Box::new(move || dice.next()));
        // As it will see the time, once it is up.
        let unix_ms = self.now(now_us).unix_ms;
        let restored = media.keep(Now { mono_us: 0, unix_ms }, journal, kept);
        rig.started();
        if restored.unreadable > 0 {
            bail!("what was kept of media cannot be read: {restored:?}");
        }
        if restored.ended > 0 {
            self.media_lost_us = Some(now_us);
        }
        Ok(Some(Arc::new(media)))
    }

    /// Starts it, with what the disk has. The store may begin by writing what has expired.
    pub(crate) fn start(&mut self, now_us: u64) -> Result<Effects> {
        self.lives += 1;
        let unix_ms = self.now(now_us).unix_ms;
        let (sim_store, store) = store::pair(&self.disk);
        let config = Config { max_aors: 1_000, max_bindings: 1_000, ..Config::default() };
        let location = LocationService::open_with(&config, Box::new(sim_store), unix_ms)?;
        let location = Arc::new(location);
        let dice = Dice::new(self.seed, 100 + self.lives * 2 + self.role as u64);
        let seed = dice.clone().next();
        let media = self.start_media(now_us, dice.clone())?;
        let policy = Watched::new(&self.catalog, Arc::clone(&self.watch), dice)?;
        let shared: Arc<dyn Location> = Arc::<LocationService>::clone(&location);
        let mut settings = settings(self.role, seed);
        settings.shared.media = media.clone().map(|media| media as Arc<dyn Media>);
        let engine = Engine::new(Arc::new(settings), shared, policy, seed);
        self.up = Some(Up {
            engine,
            location,
            media,
            watch: Arc::clone(&self.watch),
            store,
            writing: false,
            bound: BTreeMap::new(),
            waiting: 0,
            forgetting: true,
            deadline_us: None,
            began_us: now_us,
        });
        let up = self.up.as_mut().context("it has just started")?;
        let writing = up.settle_store(&mut VecDeque::new())?;
        Ok(Effects { writing, ..Effects::default() })
    }

    /// Ends it at once. A write under way reaches the disk, or does not.
    pub(crate) fn crash(&mut self, now_us: u64, written: bool) {
        let Some(up) = self.up.take() else { return };
        if let Some((rig, _)) = &self.rig
            && rig.crash(written)
        {
            self.media_lost_us = Some(now_us);
        }
        up.store.kill();
        if up.writing {
            let _ = up.store.orders.send(if written { Order::Apply } else { Order::Fail });
        }
        // Dropping the location service waits for its thread, which finds the store dead.
    }

    /// One input, and all that comes of it.
    pub(crate) fn input(&mut self, now_us: u64, input: Input<'_>) -> Result<Effects> {
        let now = self.now(now_us);
        self.rig.iter().for_each(|(rig, _)| rig.set_now(now_us));
        let Some(up) = self.up.as_mut() else { return Ok(Effects::default()) };
        let mut effects = Effects::default();
        let mut next = VecDeque::new();
        up.engine.handle_input(now, input);
        loop {
            up.drain(&mut effects, &mut next)?;
            effects.writing |= up.settle_store(&mut next)?;
            let Some(input) = next.pop_front() else { return Ok(effects) };
            up.engine.handle_input(now, input);
        }
    }

    /// Ends the write under way. The store may begin the next.
    pub(crate) fn end_write(&mut self, now_us: u64, order: Order) -> Result<Effects> {
        let now = self.now(now_us);
        self.rig.iter().for_each(|(rig, _)| rig.set_now(now_us));
        let Some(up) = self.up.as_mut() else { return Ok(Effects::default()) };
        let (mut effects, mut next) = (Effects::default(), VecDeque::new());
        if !std::mem::take(&mut up.writing) {
            return Ok(effects);
        }
        up.store.orders.send(order).context("the store's thread is gone")?;
        effects.writing |= up.settle_store(&mut next)?;
        while let Some(input) = next.pop_front() {
            up.engine.handle_input(now, input);
            up.drain(&mut effects, &mut next)?;
            effects.writing |= up.settle_store(&mut next)?;
        }
        Ok(effects)
    }

    /// A stream is open.
    pub(crate) fn stream_opened(&mut self, conn: ConnId) {
        if let Some(up) = self.up.as_mut() {
            up.bound.insert(conn, Vec::new());
        }
    }

    /// A stream is gone, and with it the bindings made over it (RFC 5626 7): what the daemon does.
    pub(crate) fn stream_closed(&mut self, conn: ConnId) -> Result<Effects> {
        let Some(up) = self.up.as_mut() else { return Ok(Effects::default()) };
        for key in up.bound.remove(&conn).unwrap_or_default() {
            drop_bindings(&up.location, &key, |binding| binding.fields().conn == conn);
            up.forgetting = true;
        }
        let writing = up.settle_store(&mut VecDeque::new())?;
        Ok(Effects { writing, ..Effects::default() })
    }

    /// Drops what has expired.
    pub(crate) fn expire(&mut self, now_us: u64) -> Result<Effects> {
        let unix_ms = self.now(now_us).unix_ms;
        let Some(up) = self.up.as_mut() else { return Ok(Effects::default()) };
        up.forgetting |= !up.location.expire(unix_ms, 1_000).is_empty();
        let writing = up.settle_store(&mut VecDeque::new())?;
        Ok(Effects { writing, ..Effects::default() })
    }
}

impl Up {
    fn drain(&mut self, effects: &mut Effects, next: &mut VecDeque<Input<'static>>) -> Result<()> {
        loop {
            let mut bytes = Vec::new();
            match self.engine.poll_output(&mut bytes) {
                Output::Transmit { flow, token, may_open } => {
                    effects.sent.push(Sent { flow, token, may_open, bytes });
                }
                Output::Commit { token, changes } => {
                    self.bind(&changes);
                    let tell = self.store.tell.clone();
                    let decided = self.location.commit_or_queue(changes, || {
                        Box::new(move |result| {
                            let _ = tell.send(News::Done(token, result));
                        })
                    });
                    match decided {
                        Some(result) => next.push_back(Input::Committed { token, result }),
                        None => self.waiting += 1,
                    }
                }
                Output::Resolve { token, .. } => {
                    next.push_back(Input::Resolved { token, hops: Vec::new() });
                }
                Output::Ask { token, query } => bail!("nobody has users here: {token:?} {query:?}"),
                Output::Event(Event::PolicyFailed { .. }) => effects.policy_failures += 1,
                Output::Event(Event::MediaFailed { call_id, .. }) => {
                    self.watch.hurt(call_id.as_bytes());
                }
                Output::Pong { .. } | Output::Event(_) => {}
                Output::Idle { deadline_us } => {
                    self.deadline_us = deadline_us;
                    return Ok(());
                }
            }
        }
    }

    /// Remembers which AoRs' bindings end with which stream.
    fn bind(&mut self, changes: &[Change]) {
        for change in changes {
            for binding in &change.set.bindings {
                let keys = self.bound.get_mut(&binding.fields().conn);
                if let Some(keys) = keys.filter(|keys| !keys.contains(&change.key)) {
                    keys.push(change.key.clone());
                }
            }
        }
    }

    /// Waits until the store's thread has nothing to do but to wait for an order; true where it has
    /// begun a write. So the two threads never run at a time that matters.
    fn settle_store(&mut self, next: &mut VecDeque<Input<'static>>) -> Result<bool> {
        let mut began = false;
        for _ in 0..LOOKS {
            // Counting looks at every shard, so the commits are asked first. What has expired is
            // queued too, and nobody waits for it.
            let idle =
                self.waiting == 0 && (!self.forgetting || self.location.counts().queued == 0);
            self.forgetting &= !idle;
            let news = match self.store.news.try_recv() {
                Ok(news) => news,
                Err(_) if self.writing || idle => return Ok(began),
                Err(_) => match self.store.news.recv_timeout(LOOK) {
                    Ok(news) => news,
                    Err(_) => continue,
                },
            };
            match news {
                News::Writing => (self.writing, began) = (true, true),
                News::Done(token, result) => {
                    self.waiting -= 1;
                    next.push_back(Input::Committed { token, result });
                }
            }
        }
        bail!("the store's thread does not come to rest")
    }
}

fn settings(role: Role, secret: u64) -> Settings {
    let at = role.at();
    let listener =
        |transport| Listener { transport, addr: at, host: at.ip().to_string().into(), port: 5060 };
    let peer = match role {
        Role::Edge => Role::Registrar,
        Role::Registrar => Role::Edge,
    };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&secret.to_le_bytes());
    Settings {
        worker: 0,
        listeners: [Transport::Udp, Transport::Tcp].map(listener).into(),
        domains: vec![DOMAIN.into()],
        trusted: vec![Network { addr: peer.at().ip(), bits: 32 }],
        registrar: Registrar::default(),
        auth: None,
        path_keys: PathKeys::new(vec![(0, vec![1; 32])]).unwrap_or_default(),
        use_received: true,
        force_rport: true,
        server: "".into(),
        events: false,
        timers: TimerValues::default(),
        bounds: Bounds { transactions: 1_000, ..Bounds::default() },
        secret: key,
        shared: Shared::default(),
    }
}

/// How a router gets a datagram, or what comes by a stream.
pub(crate) fn flow(role: Role, from: SocketAddr, stream: Option<&Stream>) -> Flow {
    let (transport, conn) = match stream {
        Some(stream) => (Transport::Tcp, stream.conn),
        None => (Transport::Udp, ConnId::NONE),
    };
    Flow { transport, local: role.at(), remote: from, conn }
}

/// Makes runs trap, so many in a thousand.
pub(crate) fn set_traps(router: &Router, permille: u64) {
    router.watch.traps.store(permille, Ordering::Relaxed);
}
