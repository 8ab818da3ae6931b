//! Media orders: staged here, carried out by the engine when the run has ended well.

use std::sync::Arc;

use super::Run;
use crate::hook::Phase;
use crate::media::{Action, CallView, Media, MediaDialog, MediaFlagError, MediaFlags, Order, Tags};
use crate::query::{Fact, Query};

/// Why nothing is staged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaRefusal {
    /// The configuration has no media relay.
    #[error("there is no media relay")]
    Off,
    /// A flag means nothing, or names what is not configured.
    #[error("{0}")]
    Flags(String),
    /// The message has no description to relay.
    #[error("the message has no session description")]
    NoDescription,
}

/// How media stand is not known here yet: the run ends, and is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not here yet")]
pub struct MediaAsk;

impl From<MediaFlagError> for MediaRefusal {
    fn from(error: MediaFlagError) -> MediaRefusal {
        MediaRefusal::Flags(error.0)
    }
}

impl Run {
    /// Stages an order about the message, in place of an earlier one. Flags: see [`MediaFlags`].
    ///
    /// # Errors
    /// See [`MediaRefusal`]; nothing is staged then.
    pub fn media(&mut self, action: Action, flags: &str) -> Result<(), MediaRefusal> {
        let Some(media) = self.relay_of_media() else { return Err(MediaRefusal::Off) };
        let flags = MediaFlags::parse(flags)?;
        media.check(&flags).map_err(MediaRefusal::Flags)?;
        let needs_body = matches!(action, Action::Offer | Action::Answer);
        if needs_body && self.message().body().is_empty() {
            return Err(MediaRefusal::NoDescription);
        }
        self.note_media(None);
        self.effects.media = Some(Box::new(Order { action, flags }));
        Ok(())
    }

    /// How the media of the message's dialog stand; `None`: they are not relayed. Where the relay is
    /// elsewhere, a request's run asks it: the run ends then, and is made again with the answer. In
    /// other phases it is told what is known here.
    ///
    /// # Errors
    /// The relay has to be asked.
    pub fn media_query(&mut self) -> Result<Option<CallView>, MediaAsk> {
        let Some(media) = self.relay_of_media() else { return Ok(None) };
        let tags = tags_of(self.message());
        let told = self.facts.iter().find_map(|fact| match fact {
            Fact::MediaCall(dialog, call) if dialog.tags() == tags => Some(call.clone()),
            _ => None,
        });
        let call = match told {
            Some(call) => call,
            None if self.phase == Phase::Request && media.is_elsewhere(tags) => {
                let dialog = Arc::new(MediaDialog::new(tags));
                self.asked = Some(Query::MediaCall(dialog));
                return Err(MediaAsk);
            }
            None => media.query(self.now, tags),
        };
        self.note_media(call.as_ref());
        Ok(call)
    }

    fn relay_of_media(&mut self) -> Option<Arc<dyn Media>> {
        self.settings.shared.media.clone()
    }
}

/// The tags of a message that has been checked.
pub(crate) fn tags_of(message: viaduct_message::Message<'_>) -> Tags<'_> {
    Tags {
        call_id: message.call_id().unwrap_or_default(),
        from: message.from().ok().and_then(|from| from.tag()).unwrap_or_default(),
        to: message.to().ok().and_then(|to| to.tag()).unwrap_or_default(),
    }
}
