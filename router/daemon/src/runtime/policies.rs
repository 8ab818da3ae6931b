//! The policies of a running router: opened, changed by orders, guarded.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use viaduct_policy::{
    CatalogError, Guard, GuardLimits, Guarded, PolicyCatalog, PolicyInfo, ShadowCounts, package,
};

use crate::config::Config;
use crate::control::{PolicyEntry, PolicyOrder, PolicyParts, Refusal, ShadowEntry};
use crate::metrics::Metrics;

/// How often it is looked whether a version keeps failing.
const GUARD_INTERVAL: Duration = Duration::from_secs(1);

/// The deployed policies. The configured component is deployed where it is new: never taken before,
/// or built again since. Otherwise what was deployed last stays, whatever its origin.
pub(super) fn open(config: &Config) -> anyhow::Result<Arc<PolicyCatalog>> {
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

/// Users protect nothing where the policy does not ask who sends a request.
pub(super) fn warn_without_auth(users: bool, catalog: &PolicyCatalog) {
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

/// Carries an order out; what it made live, or gave its requests back to.
pub(super) fn change(
    catalog: &PolicyCatalog,
    metrics: &Metrics,
    order: PolicyOrder,
    users: bool,
) -> Result<PolicyEntry, Refusal> {
    let (what, result) = match order {
        PolicyOrder::Deploy(bytes, scope) => ("deployed", catalog.deploy_in(&bytes, &scope)),
        PolicyOrder::Rollback(scope) => ("rolled back", catalog.rollback_in(&scope)),
        PolicyOrder::Activate(serial, scope) => ("activated", catalog.activate_in(serial, &scope)),
        PolicyOrder::Pin(scope, true) => ("pinned", catalog.pin(&scope, true)),
        PolicyOrder::Pin(scope, false) => ("unpinned", catalog.pin(&scope, false)),
        PolicyOrder::Withdraw(scope) => ("scope withdrawn", catalog.withdraw(&scope)),
        PolicyOrder::Canary(bytes, share) => ("canary", catalog.canary(&bytes, share)),
        PolicyOrder::Promote => ("canary promoted", catalog.promote()),
        PolicyOrder::StopCanary => ("canary ended", catalog.stop_canary()),
        PolicyOrder::Shadow(bytes) => ("shadow", catalog.shadow(&bytes)),
        PolicyOrder::StopShadow => ("shadow ended", catalog.stop_shadow()),
    };
    let deployed = result.map_err(|error| {
        if let CatalogError::Load(why) = &error {
            tell_refused(metrics, why.kind(), why);
        }
        refusal(error)
    })?;
    tracing::info!(policy = deployed.name, version = deployed.version, "{what}");
    warn_without_auth(users, catalog);
    let found = catalog.list().into_iter().find(|info| info.serial == deployed.serial);
    found.map(entry).ok_or_else(|| Refusal::Failed("the version is gone".to_owned()))
}

/// Whoever watches the router learns what was tried, not only whoever tried it.
pub(super) fn tell_refused(metrics: &Metrics, kind: &str, why: &dyn std::fmt::Display) {
    metrics.count_refused(kind);
    tracing::warn!(target: "viaduct::policy", kind, "policy refused: {why}");
}

/// What a version is made of.
pub(super) fn parts(catalog: &PolicyCatalog, serial: u64) -> Result<PolicyParts, Refusal> {
    let component = catalog.component(serial).map_err(refusal)?;
    parts_of(&component).map_err(|error| Refusal::Failed(error.to_string()))
}

/// What a component is made of.
pub(crate) fn parts_of(component: &[u8]) -> Result<PolicyParts, package::PackageError> {
    let manifest = package::manifest_text(component)?.to_owned();
    let imports = package::imports(component)?;
    let (bytes, hash) = (component.len(), package::hash(component));
    Ok(PolicyParts { manifest, imports, bytes, hash })
}

/// A thread that rolls back what keeps failing.
pub(super) fn spawn_guard(
    catalog: &Arc<PolicyCatalog>,
    metrics: &Arc<Metrics>,
    limits: GuardLimits,
) -> std::io::Result<()> {
    let (catalog, metrics) = (Arc::downgrade(catalog), Arc::downgrade(metrics));
    std::thread::Builder::new().name("policy-guard".into()).spawn(move || {
        let mut guard = Guard::default();
        while let (Some(catalog), Some(metrics)) = (catalog.upgrade(), metrics.upgrade()) {
            for done in guard.look(&catalog, limits) {
                tell(&done);
                metrics.count_guarded(done.to.is_ok());
            }
            drop((catalog, metrics));
            std::thread::sleep(GUARD_INTERVAL);
        }
    })?;
    Ok(())
}

fn tell(done: &Guarded) {
    let Guarded { serial, scope, runs, failures, to } = done;
    let scope = scope.as_ref().map_or("canary".to_owned(), ToString::to_string);
    match to {
        Ok(to) => tracing::error!(
            target: "viaduct::policy", serial, scope, runs, failures, to, "rolled back: it keeps failing"
        ),
        Err(why) => tracing::error!(
            target: "viaduct::policy", serial, scope, runs, failures, why, "keeps failing, and stays"
        ),
    }
}

fn refusal(error: CatalogError) -> Refusal {
    use CatalogError as E;
    match error {
        E::Load(error) => Refusal::Invalid(error.to_string()),
        E::BadShare(_) => Refusal::Invalid(error.to_string()),
        E::NoSuchVersion(_) | E::NoScope(_) | E::NoGuest(_) => Refusal::NotFound(error.to_string()),
        E::NothingEarlier | E::Empty | E::Pinned(_) | E::TooManyScopes => {
            Refusal::Conflict(error.to_string())
        }
        error => Refusal::Failed(error.to_string()),
    }
}

pub(super) fn entries(infos: Vec<PolicyInfo>) -> Vec<PolicyEntry> {
    infos.into_iter().map(entry).collect()
}

fn entry(info: PolicyInfo) -> PolicyEntry {
    let shadow = |counts: ShadowCounts| ShadowEntry {
        same: counts.same,
        different: counts.different,
        failed: counts.failed,
        undecided: counts.undecided,
        last: counts.last,
    };
    PolicyEntry {
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
        scopes: info.scopes,
        pinned: info.pinned,
        canary: info.canary,
        shadow: info.shadow.map(shadow),
        note: info.note,
    }
}
