//! Deployed versions of the router's policy: deploy, rollback, list, and which one is live.
//!
//! A deploy compiles and checks on the caller's thread; then one pointer is swapped and a
//! generation counter raised, which each worker looks at between two messages. Refused components
//! change nothing.

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
use crate::sandbox::{Sandbox, SandboxError};
use crate::version::{LoadError, PolicyVersion, hash};
use crate::worker::{PolicyHost, WorkerOptions};

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
}

/// The deployed versions. Shared by workers and the admin API.
pub struct PolicyCatalog {
    sandbox: Arc<Sandbox>,
    disk: Option<Disk>,
    live: ArcSwapOption<PolicyVersion>,
    generation: AtomicU64,
    state: Mutex<State>,
    /// Held through a deploy or rollback, compilation included; `state` only for moments.
    changing: Mutex<()>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// Serials in order of activation; the last is live. Each at most once.
    activations: Vec<u64>,
    /// Keeps the version before the live one loaded, for `fallback = "previous version"`.
    previous: Option<Arc<PolicyVersion>>,
}

struct Entry {
    serial: u64,
    name: Box<str>,
    version: Box<str>,
    hash: Box<str>,
    content: Content,
    loaded: Weak<PolicyVersion>,
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
        let (stored, active) = disk.scan().map_err(fault)?;
        let catalog = PolicyCatalog::new(Sandbox::new()?, Some(disk));
        for version in stored {
            match entry_of_file(version.serial, &version.path) {
                Ok(entry) => catalog.state.lock().entries.push(entry),
                Err(CatalogError::Stored { path, reason })
                    if active.last() != Some(&version.serial) =>
                {
                    tracing::warn!("stored policy {} is left out: {reason}", path.display());
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(&live) = active.last() {
            let known = |serial: &u64| catalog.entry(*serial, |_| ()).is_ok();
            let activations = active.iter().copied().filter(known).collect();
            catalog.activate_loaded(catalog.load(live)?, activations)?;
        }
        Ok(Arc::new(catalog))
    }

    fn new(sandbox: Arc<Sandbox>, disk: Option<Disk>) -> PolicyCatalog {
        PolicyCatalog {
            sandbox,
            disk,
            live: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            state: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    /// Checks, compiles, stores and publishes a component with a manifest inside. Takes tens of
    /// milliseconds: not for a worker's thread. Deploying what is live changes nothing.
    pub fn deploy(&self, bytes: &[u8]) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let hash = hash(bytes);
        if let Some(live) = self.live().filter(|live| *live.hash() == *hash) {
            return Ok(deployed(&live, false));
        }
        let (known, last) = {
            let state = self.state.lock();
            let known = state.entries.iter().find(|entry| entry.hash == hash);
            let last = state.entries.iter().map(|entry| entry.serial).max();
            (known.map(|entry| (entry.serial, entry.loaded.upgrade())), last)
        };
        let version = match known {
            // It has been live before, and transactions still hold it.
            Some((_, Some(version))) => version,
            Some((serial, None)) => PolicyVersion::load(&self.sandbox, serial, bytes)?,
            None => {
                let serial = last.unwrap_or(0).saturating_add(1);
                let version = PolicyVersion::load(&self.sandbox, serial, bytes)?;
                let entry = self.store(&version, bytes)?;
                self.state.lock().entries.push(entry);
                version
            }
        };
        self.activate_on_top(version)
    }

    /// Makes the version live that was live before this one. Rolling back twice goes back further.
    pub fn rollback(&self) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        let mut activations = self.state.lock().activations.clone();
        activations.pop();
        let earlier = *activations.last().ok_or(CatalogError::NothingEarlier)?;
        let version = self.load(earlier)?;
        self.activate_loaded(Arc::clone(&version), activations)?;
        Ok(deployed(&version, true))
    }

    /// Makes a version of the list live again.
    pub fn activate(&self, serial: u64) -> Result<Deployed, CatalogError> {
        let _changing = self.changing.lock();
        if let Some(live) = self.live().filter(|live| live.serial() == serial) {
            return Ok(deployed(&live, false));
        }
        self.activate_on_top(self.load(serial)?)
    }

    /// All versions kept, oldest first.
    pub fn list(&self) -> Vec<PolicyInfo> {
        let state = self.state.lock();
        let mut active = state.activations.iter().rev();
        let (live, next) = (active.next(), active.next());
        let line = |entry: &Entry| {
            let loaded = entry.loaded.upgrade();
            PolicyInfo {
                serial: entry.serial,
                name: entry.name.to_string(),
                version: entry.version.to_string(),
                hash: entry.hash.to_string(),
                live: live == Some(&entry.serial),
                next_rollback: next == Some(&entry.serial),
                loaded: loaded.is_some(),
                counts: loaded.as_ref().map(|version| version.counts()).unwrap_or_default(),
                last_failure: loaded.and_then(|version| version.last_failure()),
            }
        };
        state.entries.iter().map(line).collect()
    }

    /// The version new transactions begin with.
    pub fn live(&self) -> Option<Arc<PolicyVersion>> {
        self.live.load_full()
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
        let live = self.live().ok_or(CatalogError::Empty)?;
        Ok(PolicyHost::new(Arc::clone(self), options, generation, live))
    }

    fn activate_on_top(&self, version: Arc<PolicyVersion>) -> Result<Deployed, CatalogError> {
        let mut activations = self.state.lock().activations.clone();
        activations.retain(|serial| *serial != version.serial());
        activations.push(version.serial());
        self.activate_loaded(Arc::clone(&version), activations)?;
        self.prune();
        Ok(deployed(&version, true))
    }

    /// Stores what is active, then publishes: a crash in between comes up with what was asked for.
    fn activate_loaded(
        &self,
        version: Arc<PolicyVersion>,
        activations: Vec<u64>,
    ) -> Result<(), CatalogError> {
        if let Some(disk) = &self.disk {
            disk.write_active(&activations).map_err(|error| self.fault(error))?;
        }
        let earlier = activations.iter().rev().nth(1).copied();
        let previous = earlier.and_then(|serial| self.load_as_fallback(serial));
        version.set_previous(previous.as_ref().map(Arc::downgrade).unwrap_or_default());
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.iter_mut().find(|e| e.serial == version.serial()) {
            entry.loaded = Arc::downgrade(&version);
        }
        state.activations = activations;
        state.previous = previous;
        drop(state);
        self.live.store(Some(version));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
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
        if let Some(entry) = self.state.lock().entries.iter_mut().find(|e| e.serial == serial) {
            entry.loaded = Arc::downgrade(&version);
        }
        Ok(version)
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
        })
    }

    /// Removes the oldest versions beyond [`KEPT`], never the live one or the one before it.
    fn prune(&self) {
        let mut state = self.state.lock();
        while state.entries.len() > KEPT {
            let needed: Vec<u64> = state.activations.iter().rev().take(2).copied().collect();
            let Some(at) = state.entries.iter().position(|e| !needed.contains(&e.serial)) else {
                return;
            };
            let entry = state.entries.remove(at);
            state.activations.retain(|serial| *serial != entry.serial);
            if let Content::File(path) = &entry.content
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::warn!("old policy {} stays on disk: {error}", path.display());
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
