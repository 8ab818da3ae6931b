//! A router that has all a policy can ask for: users, a media relay, two gateways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use viaduct_engine::dispatcher::{DestinationConfig, Dispatcher, Thresholds};
use viaduct_engine::media::{Action, CallView, Handled, Media, MediaFault, MediaFlags};
use viaduct_engine::media::{MediaMessage, MediaOrder, Order, Tags};
use viaduct_engine::{Now, Settings, Shared};

use super::{BOB, CAROL, auth, settings};

/// A relay that makes every description longer; about every other one it has to be asked.
#[derive(Default)]
struct Relay(AtomicBool);

impl Media for Relay {
    fn handle(
        &self,
        _: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Handled, MediaFault> {
        if order.action != Action::Delete && self.0.fetch_not(Ordering::Relaxed) {
            return Ok(Handled::Ask(Arc::new(MediaOrder::new(order, message))));
        }
        Ok(Handled::Done(Some([message.body, b"a=relayed\r\n"].concat())))
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
    let media: Arc<dyn Media> = Arc::new(Relay::default());
    let dispatcher = Dispatcher::new(gateways, Thresholds::default());
    let shared =
        Shared { media: Some(media), dispatcher: Arc::new(dispatcher), ..Shared::default() };
    Settings { auth: Some(auth()), shared, ..settings() }
}
