//! Media nodes: opened, and told of in a line.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use crossbeam_channel::Sender;
use viaduct_engine::Event;
use viaduct_media::ng::{Config, NgRelay};
use viaduct_media::service::{Journal, Numbers};

use super::file::KeptFile;
use crate::worker::core::Clock;

/// The relay by nodes, and the file that says for the next process which call is where.
pub(in crate::runtime) struct Nodes {
    pub(super) relay: Arc<NgRelay>,
    file: Arc<KeptFile>,
}

impl Nodes {
    pub(super) fn open(
        config: &Config,
        state_dir: &Path,
        clock: &Arc<Clock>,
        events: Sender<Event>,
    ) -> anyhow::Result<Nodes> {
        let (file, kept) = KeptFile::open(&state_dir.join("media-nodes.redb"))?;
        let file = Arc::new(file);
        let journal = Arc::clone(&file) as Arc<dyn Journal>;
        let clock = Arc::clone(clock);
        // A queue that is full counts what it loses, as for the workers.
        let sink = move |record| drop(events.try_send(Event::MediaEnded(Box::new(record))));
        let (clock, sink) = (Box::new(move || clock.now()), Box::new(sink));
        let relay = NgRelay::start(config.clone(), clock, sink, Some((journal, kept)))
            .context("media nodes cannot be asked")?;
        let calls = relay.numbers().calls.calls;
        if calls > 0 {
            tracing::info!(target: "viaduct::media", calls, "calls go on");
        }
        Ok(Nodes { relay, file })
    }

    /// `rtpengine, 2 of 3 nodes up, 12 calls`
    pub(super) fn words(&self) -> String {
        let numbers = self.relay.numbers();
        let up = numbers.nodes.iter().filter(|node| node.up).count();
        let (all, calls) = (numbers.nodes.len(), numbers.calls.calls);
        format!("rtpengine, {up} of {all} nodes up, {calls} calls")
    }

    /// Who knows the counters of calls.
    pub(super) fn numbers(&self) -> impl Fn() -> Numbers + Send + Sync + 'static {
        let (relay, file) = (Arc::clone(&self.relay), Arc::clone(&self.file));
        move || Numbers { kept: file.kept(), ..relay.numbers().calls }
    }

    /// Calls go on on their nodes.
    pub(super) fn close(&self) {
        self.file.close();
    }
}
