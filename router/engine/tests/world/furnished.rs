//! A router that has all a policy can ask for: users, a media relay, two gateways.

use std::sync::Arc;

use viaduct_engine::dispatcher::{DestinationConfig, Dispatcher, Thresholds};
use viaduct_engine::media::{CallView, Media, MediaFault, MediaFlags, MediaMessage, Order, Tags};
use viaduct_engine::{Now, Settings, Shared};

use super::{BOB, CAROL, auth, settings};

/// A relay that makes every description longer.
struct Relay;

impl Media for Relay {
    fn handle(
        &self,
        _: Now,
        _: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Option<Vec<u8>>, MediaFault> {
        Ok(Some([message.body, b"a=relayed\r\n"].concat()))
    }
    fn refused(&self, _: Now, _: Tags<'_>, _: Option<u32>) {}
    fn query(&self, _: Now, _: Tags<'_>) -> Option<CallView> {
        None
    }
    fn check(&self, _: &MediaFlags) -> Result<(), String> {
        Ok(())
    }
}

pub fn furnished() -> Settings {
    let gateways = [BOB, CAROL].map(|address| DestinationConfig {
        set: "gateways".into(),
        uri: format!("sip:{address}").into(),
        weight: 1,
        priority: 0,
        attributes: "".into(),
    });
    let media: Arc<dyn Media> = Arc::new(Relay);
    let dispatcher = Dispatcher::new(gateways, Thresholds::default());
    let shared =
        Shared { media: Some(media), dispatcher: Arc::new(dispatcher), ..Shared::default() };
    Settings { auth: Some(auth()), shared, ..settings() }
}
