//! The WebAssembly engine all policies of a router share, and its clock.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
};

use crate::aot::AotCache;

/// One tick of the wall-clock backstop, milliseconds.
pub const TICK_MS: u64 = 10;

/// Most linear memory of an instance, bytes; what manifests may ask at most.
pub const MAX_MEMORY_BYTES: usize = 16 << 20;

/// Address space for an instance's memory, bytes: all that a pointer of 32 bits can reach. So the guest's
/// code needs no check of its own before an access; what is not its memory has none behind it, and
/// faults.
const REACH_BYTES: u64 = 4 << 30;
/// Beyond that, for the constant offset an access may add.
const GUARD_BYTES: u64 = 32 << 20;
/// The same where address space is scarce (`ulimit -v`): accesses are checked.
const SCARCE_GUARD_BYTES: u64 = 64 << 10;

/// Stack of a guest, bytes. Workers' threads must have room for it beside their own frames.
pub const STACK_BYTES: usize = 256 * 1024;

/// Instances alive at a time, of all workers and versions; past it runs fail as unavailable.
/// Address space is reserved for each, memory is not.
pub const MAX_INSTANCES: u32 = 512;

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine cannot start: {0}")]
pub struct SandboxError(String);

/// The engine with its ticker. Cheap to share; the ticker ends with the last owner.
pub struct Sandbox {
    engine: Engine,
    /// Machine code from before.
    cache: Option<AotCache>,
    // Dropped with the sandbox, which stops the thread.
    _ticker: EpochTicker,
}

impl Sandbox {
    /// Sets up the engine and starts its ticker thread.
    pub fn new() -> Result<Arc<Sandbox>, SandboxError> {
        let engine = Engine::new(&config(REACH_BYTES, GUARD_BYTES))
            .or_else(|error| {
                tracing::info!("accesses of policies are checked: {error:#}");
                Engine::new(&config(MAX_MEMORY_BYTES as u64, SCARCE_GUARD_BYTES))
            })
            .map_err(|error| SandboxError(format!("{error:#}")))?;
        let ticker = EpochTicker::start(engine.clone())
            .map_err(|error| SandboxError(format!("its ticker: {error}")))?;
        Ok(Arc::new(Sandbox { engine, cache: None, _ticker: ticker }))
    }

    /// The same with a folder for machine code, so that a component is compiled once. One that
    /// cannot be used is told and left.
    pub(crate) fn with_cache(dir: &Path) -> Result<Arc<Sandbox>, SandboxError> {
        let mut sandbox = Sandbox::new()?;
        match AotCache::open(dir) {
            Ok(cache) => {
                if let Some(sandbox) = Arc::get_mut(&mut sandbox) {
                    sandbox.cache = Some(cache);
                }
            }
            Err(error) => tracing::warn!("compiled policies are not kept: {error}"),
        }
        Ok(sandbox)
    }

    /// Compiles a component, or takes what was compiled before.
    pub(crate) fn compile(&self, content: &[u8]) -> wasmtime::Result<Component> {
        let Some(cache) = &self.cache else {
            return Component::from_binary(&self.engine, content);
        };
        if let Some(component) = cache.load(&self.engine, content) {
            return Ok(component);
        }
        let component = Component::from_binary(&self.engine, content)?;
        if let Err(error) = cache.store(content, &component) {
            tracing::warn!("a compiled policy is not kept: {error}");
        }
        Ok(component)
    }

    /// Removes the machine code of a component that is about to be removed.
    pub(crate) fn forget(&self, component: &Path) {
        if let (Some(cache), Ok(content)) = (&self.cache, std::fs::read(component)) {
            cache.remove(&content);
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Everything that makes a run depend on more than its inputs is off: threads, relaxed SIMD,
/// unspecified NaNs. Fuel ends loops, the epoch is a backstop for time.
fn config(reach_bytes: u64, guard_bytes: u64) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_component_model(true)
        .max_wasm_stack(STACK_BYTES)
        .memory_reservation(reach_bytes)
        .memory_guard_size(guard_bytes)
        .memory_may_move(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    config
}

/// An instance costs page faults more than anything, so what a lean guest touches stays mapped.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_INSTANCES)
        // A component made by wit-component has its module, a shim and a fix-up module; one of
        // Python has its interpreter and libraries in about 45.
        .total_core_instances(MAX_INSTANCES * 4)
        .max_core_instances_per_component(64)
        .total_memories(MAX_INSTANCES)
        .max_memories_per_component(1)
        .total_tables(MAX_INSTANCES * 4)
        .max_tables_per_component(4)
        .table_elements(16 * 1024)
        .max_memory_size(MAX_MEMORY_BYTES)
        .linear_memory_keep_resident(256 * 1024)
        .table_keep_resident(16 * 1024)
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(MAX_INSTANCES);
    pool
}

/// Advances the engine's epoch every [`TICK_MS`].
struct EpochTicker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EpochTicker {
    fn start(engine: Engine) -> std::io::Result<EpochTicker> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("policy-ticker".to_owned()).spawn(move || {
            let begun = Instant::now();
            let mut ticks = 0;
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(Duration::from_millis(TICK_MS));
                // On a loaded machine the thread wakes late: deadlines are wall-clock time, so it
                // makes up for what it has missed.
                let due = begun.elapsed().as_millis() / u128::from(TICK_MS);
                while ticks < due {
                    ticks += 1;
                    engine.increment_epoch();
                }
            }
        })?;
        Ok(EpochTicker { stop, thread: Some(thread) })
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and if it had, there would be nothing left to stop.
            let _ = thread.join();
        }
    }
}
