//! How the media of a run's dialog stood. Addresses and counters of streams are not kept.

use serde::{Deserialize, Serialize};
use viaduct_engine::Now;
use viaduct_engine::media::{
    CallView, Handled, Media, MediaFault, MediaFlags, MediaMessage, Order, Tags,
};

/// The media of a dialog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaFact {
    /// They were relayed.
    pub relayed: bool,
    /// Since the first offer, seconds.
    #[serde(default)]
    pub age_s: u64,
    /// An offer was answered.
    #[serde(default)]
    pub answered: bool,
}

impl MediaFact {
    pub(super) fn new(call: Option<CallView>) -> MediaFact {
        match call {
            Some(call) => MediaFact { relayed: true, age_s: call.age_s, answered: call.answered },
            None => MediaFact { relayed: false, age_s: 0, answered: false },
        }
    }
}

/// A relay that knows this one dialog, and takes no order: a replayed run has no effect.
impl Media for MediaFact {
    fn handle(&self, _: Now, _: &Order, _: &MediaMessage<'_>) -> Result<Handled, MediaFault> {
        Err(MediaFault::Failed("a replay relays nothing".to_owned()))
    }

    fn refused(&self, _: Now, _: Tags<'_>, _: Option<u32>) {}

    fn query(&self, _: Now, _: Tags<'_>) -> Option<CallView> {
        let MediaFact { relayed, age_s, answered } = *self;
        relayed.then(|| CallView { age_s, answered, streams: Vec::new() })
    }

    fn check(&self, _: &MediaFlags) -> Result<(), String> {
        Ok(())
    }
}
