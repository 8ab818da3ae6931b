//! Bindings that end by time.

use viaduct_engine::AorKey;

use crate::shard::Lapsed;

/// What an AoR has lost by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Whose.
    pub key: AorKey,
    /// Contact URIs that are gone.
    pub contacts: Vec<Box<[u8]>>,
    /// Bindings that are left.
    pub left: usize,
}

impl Expired {
    pub(crate) fn new(lapsed: Lapsed, unix_ms: u64) -> Expired {
        let gone = lapsed.before.bindings.iter().filter(|binding| !binding.is_live(unix_ms));
        Expired {
            contacts: gone.map(|binding| binding.contact().into()).collect(),
            left: lapsed.after.len(),
            key: lapsed.key,
        }
    }
}
