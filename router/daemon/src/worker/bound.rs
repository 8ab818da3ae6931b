//! The location service as an engine sees it where bindings end with their connection: what is
//! bound is noted on the way in.

use std::sync::Arc;

use viaduct_engine::registrar::BindingSet;
use viaduct_engine::{Change, CommitFault, Location, Snapshot};
use viaduct_location::LocationService;

use super::mail::Streams;

/// Notes what is committed without the store; the worker notes what goes by way of it.
pub(crate) struct BoundLocation {
    inner: Arc<LocationService>,
    streams: Arc<Streams>,
}

impl BoundLocation {
    /// Watches a service.
    pub(crate) fn new(inner: Arc<LocationService>, streams: Arc<Streams>) -> BoundLocation {
        BoundLocation { inner, streams }
    }
}

impl Location for BoundLocation {
    fn get(&self, table: &str, aor: &[u8]) -> Option<Arc<BindingSet>> {
        self.inner.get(table, aor)
    }

    fn latest(&self, table: &str, aor: &[u8]) -> Snapshot {
        self.inner.latest(table, aor)
    }

    fn commit_in_memory(&self, changes: &[Change]) -> Option<Result<(), CommitFault>> {
        self.streams.bind(changes);
        self.inner.commit_in_memory(changes)
    }
}
