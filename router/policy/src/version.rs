//! One loaded version of a policy: checked, compiled, ready to be instantiated by workers.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use viaduct_engine::Phase;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use crate::bindings::policy::{Policy, PolicyPre};
use crate::counts::{Counters, Counts};
use crate::failure::in_words;
use crate::guest::Guest;
use crate::manifest::{Interface, Manifest, ManifestError};
use crate::package::{self, PackageError};
use crate::sandbox::Sandbox;
use crate::worker::instance::Instance;

/// The contract's package and version, as imports and exports spell it.
const PACKAGE: &str = "viaduct:policy/";
const CONTRACT: &str = "1.0.0";

/// Why a component is refused. The version that was live stays live.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No component, no manifest, too large.
    #[error(transparent)]
    Package(PackageError),
    /// The manifest is not usable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// WebAssembly that is not valid, or over the limits of the engine.
    #[error("policy `{policy}` does not compile: {reason}")]
    Compile {
        /// Name from the manifest.
        policy: Box<str>,
        /// The compiler's words.
        reason: String,
    },
    /// Makes resources of its own.
    #[error(
        "policy `{policy}` makes resources of its own (`resource.new`), and policies have none"
    )]
    Resources {
        /// Name from the manifest.
        policy: Box<str>,
    },
    /// Imports a host interface that the manifest does not grant.
    #[error(
        "policy `{policy}` uses `viaduct:policy/{interface}` but its manifest does not grant \
         `{interface}`"
    )]
    NotGranted {
        /// Name from the manifest.
        policy: Box<str>,
        /// Name of the interface.
        interface: String,
    },
    /// Imports something this router does not have: WASI, another contract.
    #[error("policy `{policy}` imports `{import}`, which this router does not have{hint}")]
    UnknownImport {
        /// Name from the manifest.
        policy: Box<str>,
        /// The import as written.
        import: String,
        /// Empty, or what might be the matter.
        hint: &'static str,
    },
    /// Lacks an export, or has imports or exports of other types.
    #[error("policy `{policy}` does not fit world `policy` of viaduct:policy@{CONTRACT}: {reason}")]
    WrongWorld {
        /// Name from the manifest.
        policy: Box<str>,
        /// What does not fit.
        reason: String,
    },
    /// Cannot be instantiated within its own limits.
    #[error("policy `{policy}` fails when it is started: {reason}")]
    Smoke {
        /// Name from the manifest.
        policy: Box<str>,
        /// Trap, fuel, memory.
        reason: String,
    },
}

impl LoadError {
    /// Its kind in one word, for logs and metrics; one of [`LoadError::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            LoadError::Package(PackageError::TooLarge(_)) => "size",
            LoadError::Package(_) => "package",
            LoadError::Manifest(_) => "manifest",
            LoadError::Compile { .. } => "compile",
            LoadError::Resources { .. } => "resources",
            LoadError::NotGranted { .. } => "not-granted",
            LoadError::UnknownImport { .. } => "import",
            LoadError::WrongWorld { .. } => "world",
            LoadError::Smoke { .. } => "start",
        }
    }

    /// All kinds there are.
    pub const KINDS: [&str; 9] = [
        "size",
        "package",
        "manifest",
        "compile",
        "resources",
        "not-granted",
        "import",
        "world",
        "start",
    ];
}

impl From<PackageError> for LoadError {
    fn from(error: PackageError) -> LoadError {
        match error {
            PackageError::Manifest(error) => LoadError::Manifest(error),
            error => LoadError::Package(error),
        }
    }
}

/// A loaded version. Freed when the catalog, all transactions pinned to it and the workers' idle
/// instances have let go.
pub struct PolicyVersion {
    serial: u64,
    hash: Box<str>,
    manifest: Arc<Manifest>,
    pre: PolicyPre<Guest>,
    // Keeps the ticker alive as long as something can run.
    sandbox: Arc<Sandbox>,
    pub(crate) counters: Counters,
    last_failure: Mutex<Option<String>>,
    previous: Mutex<Weak<PolicyVersion>>,
}

impl PolicyVersion {
    /// Checks and compiles a component, and starts it once within its limits. Takes tens of
    /// milliseconds: not for a worker's thread.
    pub fn load(
        sandbox: &Arc<Sandbox>,
        serial: u64,
        bytes: &[u8],
    ) -> Result<Arc<PolicyVersion>, LoadError> {
        let manifest = Manifest::parse(package::manifest_text(bytes)?)?;
        let policy = &manifest.name;
        if package::makes_resources(bytes)? {
            return Err(LoadError::Resources { policy: policy.clone() });
        }
        let component = sandbox.compile(bytes).map_err(|error| LoadError::Compile {
            policy: policy.clone(),
            reason: format!("{error:#}"),
        })?;
        check_imports(&component, &manifest)?;
        let pre = link(&component, &manifest)?;
        let version = Arc::new(PolicyVersion {
            serial,
            hash: hash(bytes),
            manifest: Arc::new(manifest),
            pre,
            sandbox: Arc::clone(sandbox),
            counters: Counters::default(),
            last_failure: Mutex::new(None),
            previous: Mutex::new(Weak::new()),
        });
        // A start function that hangs or traps is found here and not by the first phone.
        Instance::new(&version, &Arc::default()).map_err(|error| LoadError::Smoke {
            policy: version.manifest.name.clone(),
            reason: in_words(&error),
        })?;
        Ok(version)
    }

    /// Number of the deployment, from 1.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// First 16 hexadecimal digits of the SHA-256 of the component.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Runs and failures so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// What the last failed run said.
    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().clone()
    }

    pub(crate) fn wants(&self, phase: Phase) -> bool {
        self.manifest.wants(phase)
    }

    pub(crate) fn shared_manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    pub(crate) fn pre(&self) -> &PolicyPre<Guest> {
        &self.pre
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(crate) fn set_last_failure(&self, detail: String) {
        *self.last_failure.lock() = Some(detail);
    }

    pub(crate) fn set_previous(&self, previous: Weak<PolicyVersion>) {
        *self.previous.lock() = previous;
    }

    /// The version live before this one, while the catalog keeps it loaded.
    pub(crate) fn previous(&self) -> Option<Arc<PolicyVersion>> {
        self.previous.lock().upgrade()
    }
}

/// First 16 hexadecimal digits of SHA-256.
pub(crate) fn hash(bytes: &[u8]) -> Box<str> {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>().into_boxed_str()
}

/// Imports must be host interfaces of this contract, and granted ones.
fn check_imports(component: &Component, manifest: &Manifest) -> Result<(), LoadError> {
    let ty = component.component_type();
    for (import, _) in ty.imports(component.engine()) {
        let unknown = |hint| LoadError::UnknownImport {
            policy: manifest.name.clone(),
            import: import.chars().take(200).collect(),
            hint,
        };
        let Some((name, version)) =
            import.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@'))
        else {
            let wasi = "; policies have no clock, randomness, files or network (build them for \
                        wasm32-unknown-unknown)";
            return Err(unknown(if import.starts_with("wasi:") { wasi } else { "" }));
        };
        if version != CONTRACT {
            return Err(unknown("; it speaks contract viaduct:policy@1.0.0"));
        }
        // Names of types are shared by both sides and let nobody do anything.
        if name == "types" {
            continue;
        }
        let Some(interface) = Interface::from_name(name) else { return Err(unknown("")) };
        if !manifest.grants.allows(interface) {
            let policy = manifest.name.clone();
            return Err(LoadError::NotGranted { policy, interface: name.to_owned() });
        }
    }
    Ok(())
}

fn link(component: &Component, manifest: &Manifest) -> Result<PolicyPre<Guest>, LoadError> {
    let wrong = |error: wasmtime::Error| LoadError::WrongWorld {
        policy: manifest.name.clone(),
        reason: format!("{error:#}"),
    };
    let mut linker: Linker<Guest> = Linker::new(component.engine());
    Policy::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest).map_err(wrong)?;
    let pre: InstancePre<Guest> = linker.instantiate_pre(component).map_err(wrong)?;
    PolicyPre::new(pre).map_err(wrong)
}
