//! What stands for `fast` in a build without AF_XDP: no ports, ever.

use mio::{Registry, Token as PollToken};
use viaduct_transport::RecvBatch;

use super::core::Core;

/// There are none.
pub(crate) enum Given {}

#[derive(Default)]
pub(super) struct FastPath {}

impl FastPath {
    pub(super) fn ready(&mut self, _: PollToken) -> bool {
        false
    }

    pub(super) fn install(
        &mut self,
        _: usize,
        _: Option<Given>,
        _: &Registry,
        _: &mut RecvBatch,
        _: &mut Core,
    ) {
    }

    pub(super) fn has_work(&self) -> bool {
        false
    }

    pub(super) fn receive(
        &mut self,
        _: &mut RecvBatch,
        _: &mut Core,
        _: &mut dyn FnMut(&mut FastPath, &mut Core),
    ) {
    }

    pub(super) fn flush(&mut self, _: &mut Core) {}

    pub(super) fn push(&mut self) {}

    pub(super) fn counts(&self) -> (u64, u64) {
        (0, 0)
    }
}
