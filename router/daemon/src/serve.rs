//! The life of a running router: set-up, ready, signals, drain, end.
//!
//! The main thread runs the admin API, the metrics and the signals on a tokio runtime of its own;
//! the worker threads are started by the wiring, [`Start`], and are reached only through
//! [`Control`].

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::Sender;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use viaduct_engine::Event;

use crate::admin::{self, Api};
use crate::config::{AdminAddr, Config};
use crate::control::{Control, Refusal};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::show::{Show, welcome};
use crate::{log, memory, open_files};

/// Binds the sockets, opens the store and the policies, starts the worker threads; returns when
/// they serve. Nothing is left running where it fails. The events' sender must be gone when
/// [`Control::drain`] has returned and the [`Control`] is dropped.
pub type Start =
    fn(&Config, Arc<Metrics>, Handle, Sender<Event>) -> anyhow::Result<Arc<dyn Control>>;

/// Serves until a signal ends it. `show` forces the lines about registrations and calls.
pub fn run(file: &Path, show: bool, start: Start) -> anyhow::Result<()> {
    let mut config = Config::load(file)?;
    config.log.show |= show;
    log::init(&config.log);
    open_files::raise(config.limits.tcp_connections);
    memory::reserve(config.limits.reserved_memory_mb).context("limits.reserved_memory_mb")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("admin")
        .build()
        .context("no tokio runtime")?;
    runtime.block_on(serve(config, start))
}

async fn serve(config: Config, start: Start) -> anyhow::Result<()> {
    let notifier = Notifier::from_env();
    let mut signals = Signals::new().context("no signals")?;
    let metrics = Metrics::new(config.workers);
    // Bound before the workers start, so that a second router on this machine fails early.
    let admin = match &config.admin {
        Some(admin) => Some(admin::bind(admin).await?),
        None => None,
    };
    let scrape = match config.metrics {
        Some(addr) => Some(admin::bind_tcp(addr).await.context("metrics.listen")?),
        None => None,
    };
    let events = Events::default();
    let control = start(&config, metrics.clone(), Handle::current(), events.sender())?;
    let stdout = std::io::stdout();
    let colour = stdout.is_terminal();
    let show = config.log.show.then(|| Show::new(stdout, colour, Instant::now()));
    if let Some(show) = &show {
        metrics.watch_shown(show.remembered());
    }
    events.start(config.log.lines_per_s, show).context("no events thread")?;

    let api = Api {
        control: control.clone(),
        metrics: metrics.clone(),
        reload: reloader(config.clone(), control.clone()),
    };
    if let Some(bound) = admin {
        tokio::spawn(report(admin::serve(bound, api.clone()), "admin API"));
    }
    if let Some(listener) = scrape {
        tokio::spawn(report(admin::serve_metrics(listener, metrics), "metrics"));
    }
    say_ready(&config, &*control, &notifier);
    watch(&mut signals, &control, &api, &notifier).await;
    drain(&config, &mut signals, control.clone(), &notifier).await;
    if let Some(AdminAddr::Unix(path)) = config.admin.as_ref().map(|admin| &admin.listen) {
        // Gone already where somebody tidied up; the next start would replace it anyway.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

async fn report(service: impl Future<Output = std::io::Result<()>>, what: &'static str) {
    if let Err(fault) = service.await {
        tracing::error!(%fault, "{what} has ended");
    }
}

/// The line that tests and people wait for.
fn say_ready(config: &Config, control: &dyn Control, notifier: &Notifier) {
    let status = control.status();
    let line = format!("{}, policy {}", status.listeners.join(", "), status.policy);
    let mut stdout = std::io::stdout().lock();
    // A closed stdout is no reason not to serve.
    let _ = writeln!(stdout, "viaduct ready: {line}");
    if config.log.show {
        let _ = stdout.write_all(welcome(config).as_bytes());
    }
    let _ = stdout.flush();
    let (packets, workers) = (&status.packets, status.workers);
    tracing::info!(target: "viaduct", packets, workers, "ready: {line}");
    notifier.ready(&line);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reloads and feeds the watchdog until a signal asks for the end.
async fn watch(signals: &mut Signals, control: &Arc<dyn Control>, api: &Api, notifier: &Notifier) {
    let watched = notifier.watchdog_interval();
    let mut beat = tokio::time::interval(watched.unwrap_or(Duration::from_secs(3600)));
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.hangup.recv() => {
                notifier.reloading();
                let again = api.reload.clone();
                match tokio::task::spawn_blocking(move || again()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(refusal)) => tracing::error!("not reloaded: {refusal}"),
                    Err(fault) => tracing::error!(%fault, "not reloaded"),
                }
                notifier.ready("reloaded");
            }
            _ = beat.tick(), if watched.is_some() => beat_once(&**control, notifier),
        }
    }
}

fn beat_once(control: &dyn Control, notifier: &Notifier) {
    if control.is_alive() {
        notifier.alive();
    } else {
        tracing::error!("a worker does not turn: systemd is not told that all is well");
    }
}

/// Waits for what is under way; a second signal ends the wait.
async fn drain(
    config: &Config,
    signals: &mut Signals,
    control: Arc<dyn Control>,
    notifier: &Notifier,
) {
    notifier.stopping();
    let grace = Duration::from_secs(config.drain_s);
    tracing::info!(target: "viaduct", grace_s = config.drain_s, "draining");
    let draining = control.clone();
    let mut over = tokio::task::spawn_blocking(move || draining.drain(grace));
    let watched = notifier.watchdog_interval();
    let mut beat = tokio::time::interval(watched.unwrap_or(Duration::from_secs(3600)));
    let left = loop {
        tokio::select! {
            left = &mut over => break left,
            () = signals.end() => control.hurry(),
            _ = beat.tick(), if watched.is_some() => notifier.alive(),
        }
    };
    match left {
        Ok(0) => tracing::info!(target: "viaduct", "stopped"),
        Ok(left) => tracing::warn!(target: "viaduct", left, "stopped with transactions under way"),
        Err(fault) => tracing::error!(%fault, "the drain ended by a panic"),
    }
}

/// Reads the file again and hands what may change to the router.
fn reloader(
    started: Config,
    control: Arc<dyn Control>,
) -> Arc<dyn Fn() -> Result<Vec<&'static str>, Refusal> + Send + Sync> {
    Arc::new(move || {
        let new = Config::load(&started.file);
        let new = new.map_err(|errors| Refusal::Invalid(errors.to_string()))?;
        let waiting = started.needs_restart(&new);
        let merged = started.reloaded(new);
        control.reload(&merged)?;
        if waiting.is_empty() {
            tracing::info!(target: "viaduct", "reloaded");
        } else {
            tracing::warn!(target: "viaduct", keys = ?waiting, "reloaded; these need a restart");
        }
        Ok(waiting)
    })
}
