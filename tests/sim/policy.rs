//! The shipped policies, watched: which version decided what, and now and then a run that traps.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use viaduct_engine::{FailureKind, Phase, Policy, PolicyFailure, Run, Verdict};
use viaduct_message::{HeaderName, Via};
use viaduct_policy::{PinnedVersion, PolicyCatalog, PolicyHost, Sandbox, WorkerOptions};
use viaduct_tests::support::policy;

use crate::dice::Dice;

/// Catalogs of both routers, each with two versions of its policy. Compiling them takes longer than
/// a simulated hour, so they are made once and used for many seeds.
pub(crate) struct Shelf {
    edge: Arc<PolicyCatalog>,
    registrar: Arc<PolicyCatalog>,
    /// A registrar that relays the media of all calls.
    relaying: Arc<PolicyCatalog>,
}

/// Serial number of the version a simulation begins with; the other is one higher.
const FIRST: u64 = 1;

impl Shelf {
    /// Loads the policies as `make policies` has built them.
    pub(crate) fn load() -> Result<Shelf> {
        let sandbox = Sandbox::new().context("the WebAssembly engine")?;
        let folder = tempfile::tempdir()?;
        let catalog = |name: &str| -> Result<Arc<PolicyCatalog>> {
            let catalog = PolicyCatalog::in_memory_with(Arc::clone(&sandbox));
            for version in ["1.0.0", "1.0.1"] {
                let copy = folder.path().join(version);
                policy::copy_with(&policy::shipped(name)?, &copy, |manifest| {
                    manifest.insert("version".to_owned(), version.into());
                    policy::set(manifest, "next_hop", &format!("sip:{}", Role::Registrar.at()));
                    policy::set(manifest, "media", "always");
                    // All phones behind the edge have one address.
                    policy::set(manifest, "hits_per_s", "1000000");
                })?;
                catalog.deploy(&std::fs::read(copy)?)?;
            }
            Ok(catalog)
        };
        Ok(Shelf {
            edge: catalog("outbound-proxy")?,
            registrar: catalog("registrar")?,
            relaying: catalog("default-script")?,
        })
    }

    /// The catalog of a router, with its first version live.
    pub(crate) fn fresh(&self, role: Role, media: bool) -> Result<Arc<PolicyCatalog>> {
        let catalog = match role {
            Role::Edge => &self.edge,
            Role::Registrar if media => &self.relaying,
            Role::Registrar => &self.registrar,
        };
        catalog.activate(FIRST)?;
        Ok(Arc::clone(catalog))
    }
}

/// Makes the other version live.
pub(crate) fn swap(catalog: &PolicyCatalog) -> Result<()> {
    let live = catalog.live().context("nothing is live")?.serial();
    catalog.activate(if live == FIRST { FIRST + 1 } else { FIRST })?;
    Ok(())
}

/// What a router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Outbound proxy.
    Edge,
    /// Registrar and home proxy.
    Registrar,
}

impl Role {
    /// Its address.
    pub(crate) fn at(self) -> SocketAddr {
        let host = match self {
            Role::Edge => [192, 0, 2, 1],
            Role::Registrar => [192, 0, 2, 2],
        };
        (host, 5060).into()
    }
}

/// Shared with the simulation: what is to go wrong, and what was seen.
#[derive(Default)]
pub(crate) struct Watch {
    /// Runs in a thousand that trap.
    pub(crate) traps: AtomicU64,
    /// The first version mix that was seen.
    pub(crate) mixed: Mutex<Option<String>>,
    /// Call-IDs of which a run or an order about media has failed.
    pub(crate) hurt: Mutex<BTreeSet<String>>,
}

impl Watch {
    /// Something about this call has failed.
    pub(crate) fn hurt(&self, call_id: &[u8]) {
        let mut hurt = self.hurt.lock().unwrap_or_else(PoisonError::into_inner);
        hurt.insert(String::from_utf8_lossy(call_id).into_owned());
    }

    /// Whether something has.
    pub(crate) fn is_hurt(&self, call_id: &str) -> bool {
        self.hurt.lock().unwrap_or_else(PoisonError::into_inner).contains(call_id)
    }
}

/// A policy host that is watched. It wants to be asked in every phase, so that versions are seen
/// where the policy itself has nothing to say.
pub(crate) struct Watched {
    host: PolicyHost,
    watch: Arc<Watch>,
    dice: Dice,
    /// Version by transaction.
    versions: HashMap<String, u64>,
}

impl Watched {
    pub(crate) fn new(catalog: &Arc<PolicyCatalog>, watch: Arc<Watch>, dice: Dice) -> Result<Self> {
        let host = catalog.worker(WorkerOptions::default())?;
        Ok(Watched { host, watch, dice, versions: HashMap::new() })
    }

    /// R-G3, RFC 3261 16.11: what began with a version goes on with it.
    fn note(&mut self, serial: u64, phase: Phase, run: &Run) {
        let message = run.message();
        // The Via of whoever sent the request; in a response, ours is above it. A request that comes
        // by twice is two transactions.
        let below = usize::from(phase == Phase::Reply);
        let Some(value) = message.values(HeaderName::Via).nth(below) else { return };
        let Some(branch) = Via::parse(value.bytes).ok().and_then(|via| via.branch()) else {
            return;
        };
        let key = format!("{} {}", message.method() as u32, branch.escape_ascii());
        if phase == Phase::Request {
            self.versions.insert(key, serial);
            return;
        }
        // A response may belong to a transaction of an earlier life of this router.
        let began = self.versions.get(&key).copied().unwrap_or(serial);
        if began != serial {
            let text = format!("{key} began with version {began}, {phase:?} has {serial}");
            let mut mixed = self.watch.mixed.lock().unwrap_or_else(PoisonError::into_inner);
            mixed.get_or_insert(text);
        }
    }
}

impl Policy for Watched {
    type Version = PinnedVersion;

    fn current(&mut self) -> PinnedVersion {
        self.host.current()
    }

    fn wants(&self, _: &PinnedVersion, _: Phase) -> bool {
        true
    }

    fn decide(
        &mut self,
        version: &PinnedVersion,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        self.note(version.serial(), phase, &run);
        if !self.host.wants(version, phase) {
            return (run, Ok(Verdict::Continue));
        }
        let (run, decided) = match self.dice.permille(self.watch.traps.load(Ordering::Relaxed)) {
            true => (run, Err(PolicyFailure { kind: FailureKind::Trap, status: 503 })),
            false => self.host.decide(version, phase, run),
        };
        if decided.is_err() {
            self.watch.hurt(run.message().call_id().unwrap_or_default());
        }
        (run, decided)
    }
}
