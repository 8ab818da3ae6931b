//! Deployed versions of the router's policies: deploy, roll back, pin, list, and which is live where.
//!
//! A deploy compiles and checks on the caller's thread; then one pointer is swapped and a
//! generation counter raised, which each worker looks at between two messages. Refused components
//! change nothing. [`plan`] is what is to be live, [`live`] what workers take up, [`guard`] rolls
//! back what keeps failing.

mod guard;
mod live;
mod plan;

pub use guard::{Guard, GuardLimits, Guarded};
pub use live::ShadowCounts;
pub(crate) use live::{Compared, Live};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde::Serialize;

use crate::counts::Counts;
use crate::disk::{self, Disk};
use crate::manifest::Manifest;
use crate::package;
use crate::record::Session;
use crate::sandbox::{Sandbox, SandboxError};
use crate::scope::Scope;
use crate::version::{LoadError, PolicyVersion, hash};
use crate::worker::{PolicyHost, WorkerOptions};
use live::{Canary, Shadow};
use plan::{MOST_SCOPES, Plan};

/// Versions kept for a rollback; older ones are removed, from disk too.
const KEPT: usize = 16;

/// Why the catalog could not do something. What was live stays live.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The engine did not start.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The component is refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A stored version cannot be used at start.
    #[error("stored policy {path}: {reason}")]
    Stored {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory cannot be read or written.
    #[error("policy directory {path}: {error}")]
    Disk {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// There is no earlier version.
    #[error("no earlier version to roll back to")]
    NothingEarlier,
    /// No version of that number.
    #[error("no version {0}; `viaduct policy list` shows them")]
    NoSuchVersion(u64),
    /// Nothing has been deployed.
    #[error("no policy is deployed")]
    Empty,
    /// It is pinned.
    #[error("the policy of `{0}` is pinned; `viaduct policy unpin` lets it be changed")]
    Pinned(Scope),
    /// Nothing is deployed in that scope.
    #[error("`{0}` has no policy of its own")]
    NoScope(Scope),
    /// Too many scopes.
    #[error("at most {MOST_SCOPES} scopes may have policies of their own")]
    TooManyScopes,
    /// No canary or shadow is there.
    #[error("there is no {0}")]
    NoGuest(&'static str),
    /// A share that is none.
    #[error("a share of {0} thousandths; allowed: 1 to 999")]
    BadShare(u16),
}

/// A version that has become live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deployed {
    /// Number of the version.
    pub serial: u64,
    /// Name from the manifest.
    pub name: String,
    /// Version from the manifest.
    pub version: String,
    /// First 16 hexadecimal digits of SHA-256.
    pub hash: String,
    /// False where it was live already.
    pub changed: bool,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyInfo {
    /// Number of the version, from 1 in order of first deployment.
    pub serial: u64,
    /// Name from the manifest.
    pub name: String,
    /// Version from the manifest.
    pub version: String,
    /// First 16 hexadecimal digits of SHA-256.
    pub hash: String,
    /// New transactions begin with it.
    pub live: bool,
    /// A rollback would make it live.
    pub next_rollback: bool,
    /// Loaded: live, kept as fallback, or held by transactions under way.
    pub loaded: bool,
    /// Runs and failures since it was loaded.
    pub counts: Counts,
    /// What its last failed run said.
    pub last_failure: Option<String>,
    /// Scopes beside all in which it is live.
    pub scopes: Vec<String>,
    /// It is live in a scope that is pinned.
    pub pinned: bool,
    /// Its share of new transactions as the canary, thousandths.
    pub canary: Option<u16>,
    /// It is the shadow; how it compares.
    pub shadow: Option<ShadowCounts>,
    /// Why it was rolled back by itself.
    pub note: Option<String>,
}

/// The deployed versions. Shared by workers and the admin API.
pub struct PolicyCatalog {
    sandbox: Arc<Sandbox>,
    disk: Option<Disk>,
    live: ArcSwapOption<Live>,
    /// A recording that is under way.
    session: ArcSwapOption<Session>,
    generation: AtomicU64,
    state: Mutex<State>,
    /// Held through a deploy or rollback, compilation included; `state` only for moments.
    changing: Mutex<()>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    plan: Plan,
}

struct Entry {
    serial: u64,
    name: Box<str>,
    version: Box<str>,
    hash: Box<str>,
    content: Content,
    loaded: Weak<PolicyVersion>,
    note: Option<String>,
}

#[derive(Clone)]
enum Content {
    Memory(Arc<[u8]>),
    File(PathBuf),
}

impl Content {
    fn read(&self) -> io::Result<Arc<[u8]>> {
        match self {
            Content::Memory(bytes) => Ok(Arc::clone(bytes)),
            Content::File(path) => disk::read(path).map(Arc::from),
        }
    }

    fn name(&self) -> PathBuf {
        match self {
            Content::Memory(_) => PathBuf::from("(in memory)"),
            Content::File(path) => path.clone(),
        }
    }
}

impl PolicyCatalog {
    /// A catalog that keeps its versions in memory.
    pub fn in_memory() -> Result<Arc<PolicyCatalog>, CatalogError> {
        Ok(PolicyCatalog::in_memory_with(Sandbox::new()?))
    }

    /// The same in an engine that is there already: its set-up reserves a lot of address space.
    pub fn in_memory_with(sandbox: Arc<Sandbox>) -> Arc<PolicyCatalog> {
        Arc::new(PolicyCatalog::new(sandbox, None))
    }

    /// A catalog that keeps its versions in a directory, made where it is absent. What was live
    /// before a restart is live again; a version that cannot be loaded any more is an error.
    pub fn open(dir: &Path) -> Result<Arc<PolicyCatalog>, CatalogError> {
        let fault = |error| CatalogError::Disk { path: dir.to_owned(), error };
        let disk = Disk::open(dir).map_err(fault)?;
        let (stored, text) = disk.scan().map_err(fault)?;
        let mut plan = Plan::from_text(&text);
        let live = plan.all().and_then(plan::Line::live);
        let catalog = PolicyCatalog::new(Sandbox::with_cache(&dir.join("code"))?, Some(disk));
        for version in stored {
            match entry_of_file(version.serial, &version.path) {
                Ok(entry) => catalog.state.lock().entries.push(entry),
                Err(CatalogError::Stored { path, reason }) if live != Some(version.serial) => {
                    tracing::warn!("stored policy {} is left out: {reason}", path.display());
                }
                Err(error) => return Err(error),
            }
        }
        plan.retain(|serial| catalog.entry(serial, |_| ()).is_ok());
        if plan.all().is_some() {
            catalog.carry_out(plan)?;
        }
        Ok(Arc::new(catalog))
    }

    fn new(sandbox: Arc<Sandbox>, disk: Option<Disk>) -> PolicyCatalog {
        PolicyCatalog {
            sandbox,
            disk,
            live: ArcSwapOption::empty(),
            session: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            state: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    /// Checks, compiles, stores and publishes a component with a manifest inside. Takes tens of
    /// milliseconds: not for a worker's thread. Deploying what is live changes nothing.
    pub fn deploy(&self, bytes: &[u8]) -> Result<Deployed, CatalogError> {
        self.deploy_in(bytes, &Scope::All)
    }

    /// [`PolicyCatalog::deploy`] for the requests of a scope. The first goes to [`Scope::All`].
    pub fn deploy_in(&self, bytes: &[u8], scope: &Scope) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut plan = self.plan();
        if *scope != Scope::All && plan.all().is_none() {
            return Err(CatalogError::Empty);
        }
        let scopes = plan.lines.len().saturating_sub(1);
        if !plan.lines.contains_key(scope) && *scope != Scope::All && scopes >= MOST_SCOPES {
            return Err(CatalogError::TooManyScopes);
        }
        let line = plan.lines.entry(scope.clone()).or_default();
        if let Some(live) = line.live().and_then(|serial| self.loaded(serial))
            && *live.hash() == *hash(bytes)
        {
            return Ok(deployed(&live, false));
        }
        if line.pinned {
            return Err(CatalogError::Pinned(scope.clone()));
        }
        let version = self.take_in(bytes)?;
        line.activate(version.serial());
        self.publish(plan, &version)
    }

    /// Makes the version live that was live before this one. Rolling back twice goes back further.
    pub fn rollback(&self) -> Result<Deployed, CatalogError> {
        self.rollback_in(&Scope::All)
    }

    /// [`PolicyCatalog::rollback`] of a scope.
    pub fn rollback_in(&self, scope: &Scope) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut plan = self.plan();
        let line = match plan.lines.get_mut(scope) {
            Some(line) => line,
            None if *scope == Scope::All => return Err(CatalogError::NothingEarlier),
            None => return Err(CatalogError::NoScope(scope.clone())),
        };
        if line.pinned {
            return Err(CatalogError::Pinned(scope.clone()));
        }
        let earlier = line.before().ok_or(CatalogError::NothingEarlier)?;
        line.activations.pop();
        let version = self.load(earlier)?;
        self.publish(plan, &version)
    }

    /// Makes a version of the list live again.
    pub fn activate(&self, serial: u64) -> Result<Deployed, CatalogError> {
        self.activate_in(serial, &Scope::All)
    }

    /// [`PolicyCatalog::activate`] in a scope.
    pub fn activate_in(&self, serial: u64, scope: &Scope) -> Result<Deployed, CatalogError> {
        let content = self.entry(serial, |entry| entry.content.clone())?;
        let fault = |error: io::Error| CatalogError::Stored {
            path: content.name(),
            reason: error.to_string(),
        };
        self.deploy_in(&content.read().map_err(fault)?, scope)
    }

    /// Takes a scope's policy away: its requests go to the policy of all.
    pub fn withdraw(&self, scope: &Scope) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut plan = self.plan();
        match plan.lines.get(scope) {
            _ if *scope == Scope::All => return Err(CatalogError::NothingEarlier),
            None => return Err(CatalogError::NoScope(scope.clone())),
            Some(line) if line.pinned => return Err(CatalogError::Pinned(scope.clone())),
            Some(_) => plan.lines.remove(scope),
        };
        let all = self.live().ok_or(CatalogError::Empty)?;
        self.publish(plan, &all)
    }

    /// Keeps a scope's live version: no deploy, rollback, withdrawal or guard changes it. Or lets
    /// it go again.
    pub fn pin(&self, scope: &Scope, pinned: bool) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut plan = self.plan();
        let line = plan.lines.get_mut(scope).ok_or_else(|| CatalogError::NoScope(scope.clone()))?;
        line.pinned = pinned;
        let version = self.load(line.live().ok_or(CatalogError::Empty)?)?;
        self.publish(plan, &version)
    }

    /// Gives a component a share (thousandths, 1 to 999) of the new transactions that belong to
    /// [`Scope::All`], by a hash of their Call-ID. It takes the place of an earlier canary.
    pub fn canary(&self, bytes: &[u8], share: u16) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        if !(1..1000).contains(&share) {
            return Err(CatalogError::BadShare(share));
        }
        let mut plan = self.plan();
        plan.all().ok_or(CatalogError::Empty)?;
        let version = self.take_in(bytes)?;
        plan.canary = Some((version.serial(), share));
        self.publish(plan, &version)
    }

    /// Makes the canary live for all.
    pub fn promote(&self) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut plan = self.plan();
        let (serial, _) = plan.canary.take().ok_or(CatalogError::NoGuest("canary"))?;
        let line = plan.lines.entry(Scope::All).or_default();
        if line.pinned {
            return Err(CatalogError::Pinned(Scope::All));
        }
        line.activate(serial);
        let version = self.load(serial)?;
        self.publish(plan, &version)
    }

    /// Ends the canary; gives the version that has all requests again.
    pub fn stop_canary(&self) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut plan = self.plan();
        plan.canary.take().ok_or(CatalogError::NoGuest("canary"))?;
        let all = self.live().ok_or(CatalogError::Empty)?;
        self.publish(plan, &all)
    }

    /// Runs a component beside the live one of [`Scope::All`]; nothing it decides takes effect. It
    /// takes the place of an earlier shadow.
    pub fn shadow(&self, bytes: &[u8]) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut plan = self.plan();
        plan.all().ok_or(CatalogError::Empty)?;
        let version = self.take_in(bytes)?;
        plan.shadow = Some(version.serial());
        self.publish(plan, &version)
    }

    /// Ends the shadow.
    pub fn stop_shadow(&self) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut plan = self.plan();
        plan.shadow.take().ok_or(CatalogError::NoGuest("shadow"))?;
        let all = self.live().ok_or(CatalogError::Empty)?;
        self.publish(plan, &all)
    }

    /// All versions kept, oldest first.
    pub fn list(&self) -> Vec<PolicyInfo> {
        let live = self.live.load_full();
        let shadow = live.as_ref().and_then(|live| live.shadow.as_ref());
        let state = self.state.lock();
        let plan = &state.plan;
        let line = |entry: &Entry| {
            let loaded = entry.loaded.upgrade();
            let serial = Some(entry.serial);
            let all = plan.all();
            let lines = plan.lines.iter().filter(|(_, line)| line.live() == serial);
            let scopes = lines.clone().filter(|(scope, _)| **scope != Scope::All);
            PolicyInfo {
                serial: entry.serial,
                name: entry.name.to_string(),
                version: entry.version.to_string(),
                hash: entry.hash.to_string(),
                live: all.and_then(plan::Line::live) == serial,
                next_rollback: all.and_then(plan::Line::before) == serial,
                loaded: loaded.is_some(),
                counts: loaded.as_ref().map(|version| version.counts()).unwrap_or_default(),
                last_failure: loaded.and_then(|version| version.last_failure()),
                scopes: scopes.map(|(scope, _)| scope.to_string()).collect(),
                pinned: lines.clone().any(|(_, line)| line.pinned),
                canary: plan.canary.filter(|(canary, _)| Some(*canary) == serial).map(|(_, s)| s),
                shadow: shadow
                    .filter(|shadow| shadow.version.serial() == entry.serial)
                    .map(|shadow| shadow.counts.read()),
                note: entry.note.clone(),
            }
        };
        state.entries.iter().map(line).collect()
    }

    /// The component of a version, as it was deployed.
    pub fn component(&self, serial: u64) -> Result<Arc<[u8]>, CatalogError> {
        let content = self.entry(serial, |entry| entry.content.clone())?;
        content.read().map_err(|error| CatalogError::Stored {
            path: content.name(),
            reason: error.to_string(),
        })
    }

    /// The version new transactions of [`Scope::All`] begin with.
    pub fn live(&self) -> Option<Arc<PolicyVersion>> {
        self.live.load().as_ref().map(|live| Arc::clone(&live.all))
    }

    /// The engine its versions run in.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// Grows with each publication.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The host of one worker. Something must have been deployed.
    pub fn worker(self: &Arc<Self>, options: WorkerOptions) -> Result<PolicyHost, CatalogError> {
        let generation = self.generation();
        let live = self.all_live().ok_or(CatalogError::Empty)?;
        Ok(PolicyHost::new(Arc::clone(self), options, generation, live))
    }

    /// Begins to record, in place of an earlier recording; or ends it. Workers take it up between
    /// two messages.
    pub fn record(&self, session: Option<Arc<Session>>) {
        if let Some(before) = self.session.swap(session) {
            before.stop();
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The recording that was begun last.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    pub(crate) fn all_live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Live versions: serial, scope (`None`: the canary), pinned.
    pub(crate) fn in_use(&self) -> Vec<(u64, Option<Scope>, bool)> {
        let plan = self.plan();
        let of_line = |(scope, line): (&Scope, &plan::Line)| {
            Some((line.live()?, Some(scope.clone()), line.pinned))
        };
        let lines = plan.lines.iter().filter_map(of_line);
        lines.chain(plan.canary.map(|(serial, _)| (serial, None, false))).collect()
    }

    /// Says beside a version why it was taken out.
    pub(crate) fn note(&self, serial: u64, text: &str) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.iter_mut().find(|entry| entry.serial == serial) {
            entry.note = Some(text.to_owned());
        }
    }

    fn plan(&self) -> Plan {
        self.state.lock().plan.clone()
    }

    /// Loads a component and stores it where it is new.
    fn take_in(&self, bytes: &[u8]) -> Result<Arc<PolicyVersion>, CatalogError> {
        let hash = hash(bytes);
        let (known, last) = {
            let state = self.state.lock();
            let known = state.entries.iter().find(|entry| entry.hash == hash);
            let last = state.entries.iter().map(|entry| entry.serial).max();
            (known.map(|entry| (entry.serial, entry.loaded.upgrade())), last)
        };
        match known {
            // It has been live before, and transactions still hold it.
            Some((_, Some(version))) => Ok(version),
            Some((serial, None)) => {
                let version = PolicyVersion::load(&self.sandbox, serial, bytes)?;
                self.remember(&version);
                Ok(version)
            }
            None => {
                let serial = last.unwrap_or(0).saturating_add(1);
                let version = PolicyVersion::load(&self.sandbox, serial, bytes)?;
                let entry = self.store(&version, bytes)?;
                self.state.lock().entries.push(entry);
                Ok(version)
            }
        }
    }

    fn publish(&self, plan: Plan, what: &PolicyVersion) -> Result<Deployed, CatalogError> {
        self.carry_out(plan)?;
        self.prune();
        Ok(deployed(what, true))
    }

    /// Stores what is to be live, then publishes: a crash in between comes up with what was asked
    /// for.
    fn carry_out(&self, plan: Plan) -> Result<(), CatalogError> {
        let live = self.assemble(&plan)?;
        if let Some(disk) = &self.disk {
            disk.write_active(&plan.to_text()).map_err(|error| self.fault(error))?;
        }
        self.state.lock().plan = plan;
        self.live.store(Some(Arc::new(live)));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn assemble(&self, plan: &Plan) -> Result<Live, CatalogError> {
        let mut all = None;
        let (mut scopes, mut kept) = (Vec::new(), Vec::new());
        for (scope, line) in &plan.lines {
            let Some(serial) = line.live() else { continue };
            let version = self.load(serial)?;
            let previous = line.before().and_then(|serial| self.load_as_fallback(serial));
            version.set_previous(previous.as_ref().map(Arc::downgrade).unwrap_or_default());
            kept.extend(previous);
            match scope {
                Scope::All => all = Some(version),
                scope => scopes.push((scope.clone(), version)),
            }
        }
        let canary = match plan.canary {
            Some((serial, share)) => Some(Canary { version: self.load(serial)?, share }),
            None => None,
        };
        let shadow = plan.shadow.map(|serial| self.assemble_shadow(serial)).transpose()?;
        let all = all.ok_or(CatalogError::Empty)?;
        Ok(Live { all, scopes, canary, shadow, previous: kept })
    }

    /// A shadow goes on counting while other things change.
    fn assemble_shadow(&self, serial: u64) -> Result<Arc<Shadow>, CatalogError> {
        let before = self.live.load_full().and_then(|live| live.shadow.clone());
        match before.filter(|shadow| shadow.version.serial() == serial) {
            Some(same) => Ok(same),
            None => {
                let version = self.load(serial)?;
                Ok(Arc::new(Shadow { version, counts: live::ShadowCounters::default() }))
            }
        }
    }

    /// The earlier version, for a fallback. It is of use only then, so failing to load it is no
    /// reason to refuse the new one.
    fn load_as_fallback(&self, serial: u64) -> Option<Arc<PolicyVersion>> {
        self.load(serial)
            .map_err(|error| tracing::warn!("no version to fall back to: {error}"))
            .ok()
    }

    /// A version of the list: the one in use, or loaded again.
    fn load(&self, serial: u64) -> Result<Arc<PolicyVersion>, CatalogError> {
        let (loaded, content) =
            self.entry(serial, |entry| (entry.loaded.upgrade(), entry.content.clone()))?;
        if let Some(version) = loaded {
            return Ok(version);
        }
        let fault = |reason| CatalogError::Stored { path: content.name(), reason };
        let bytes = content.read().map_err(|error| fault(error.to_string()))?;
        let version = PolicyVersion::load(&self.sandbox, serial, &bytes)
            .map_err(|error| fault(error.to_string()))?;
        self.remember(&version);
        Ok(version)
    }

    fn loaded(&self, serial: u64) -> Option<Arc<PolicyVersion>> {
        self.entry(serial, |entry| entry.loaded.upgrade()).ok().flatten()
    }

    fn remember(&self, version: &Arc<PolicyVersion>) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.iter_mut().find(|e| e.serial == version.serial()) {
            entry.loaded = Arc::downgrade(version);
        }
    }

    fn entry<T>(&self, serial: u64, read: impl Fn(&Entry) -> T) -> Result<T, CatalogError> {
        let state = self.state.lock();
        let entry = state.entries.iter().find(|entry| entry.serial == serial);
        entry.map(read).ok_or(CatalogError::NoSuchVersion(serial))
    }

    fn store(&self, version: &Arc<PolicyVersion>, bytes: &[u8]) -> Result<Entry, CatalogError> {
        let manifest = version.manifest();
        let content = match &self.disk {
            None => Content::Memory(Arc::from(bytes)),
            Some(disk) => {
                let label = format!("{}-{}", manifest.name, manifest.version);
                let path = disk.write(version.serial(), &label, bytes);
                Content::File(path.map_err(|error| self.fault(error))?)
            }
        };
        Ok(Entry {
            serial: version.serial(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            hash: version.hash().into(),
            content,
            loaded: Arc::downgrade(version),
            note: None,
        })
    }

    /// Removes the oldest versions beyond [`KEPT`], never one that is in use or next.
    fn prune(&self) {
        let mut state = self.state.lock();
        while state.entries.len() > KEPT {
            let needed = state.plan.needed();
            let Some(at) = state.entries.iter().position(|e| !needed.contains(&e.serial)) else {
                return;
            };
            let entry = state.entries.remove(at);
            for line in state.plan.lines.values_mut() {
                line.activations.retain(|serial| *serial != entry.serial);
            }
            if let Content::File(path) = &entry.content {
                self.sandbox.forget(path);
                if let Err(error) = std::fs::remove_file(path) {
                    tracing::warn!("old policy {} stays on disk: {error}", path.display());
                }
            }
        }
    }

    fn fault(&self, error: io::Error) -> CatalogError {
        let dir = self.disk.as_ref().map(Disk::dir).unwrap_or(Path::new(""));
        CatalogError::Disk { path: dir.to_owned(), error }
    }
}

fn entry_of_file(serial: u64, path: &Path) -> Result<Entry, CatalogError> {
    let fault = |reason| CatalogError::Stored { path: path.to_owned(), reason };
    let bytes = disk::read(path).map_err(|error| fault(error.to_string()))?;
    let manifest = package::manifest_text(&bytes).map_err(|error| fault(error.to_string()))?;
    let manifest = Manifest::parse(manifest).map_err(|error| fault(error.to_string()))?;
    Ok(Entry {
        serial,
        name: manifest.name,
        version: manifest.version,
        hash: hash(&bytes),
        content: Content::File(path.to_owned()),
        loaded: Weak::new(),
        note: None,
    })
}

fn deployed(version: &PolicyVersion, changed: bool) -> Deployed {
    Deployed {
        serial: version.serial(),
        name: version.manifest().name.to_string(),
        version: version.manifest().version.to_string(),
        hash: version.hash().to_owned(),
        changed,
    }
}
