//! The media relay.

use viaduct_engine::media::{Action, CallView, LegView, StreamView};
use viaduct_engine::run::{MediaAsk, MediaRefusal};

use crate::bindings::policy::viaduct::policy::media::{Call, Host, Leg, MediaError, Stream};
use crate::guest::{Guest, Refused};

type Staged = wasmtime::Result<Result<(), MediaError>>;

impl Host for Guest {
    fn manage(&mut self, flags: String) -> Staged {
        stage(self, "media.manage", Action::Manage, &flags)
    }

    fn offer(&mut self, flags: String) -> Staged {
        stage(self, "media.offer", Action::Offer, &flags)
    }

    fn answer(&mut self, flags: String) -> Staged {
        stage(self, "media.answer", Action::Answer, &flags)
    }

    fn delete(&mut self) -> Staged {
        stage(self, "media.delete", Action::Delete, "")
    }

    fn query(&mut self) -> wasmtime::Result<Option<Call>> {
        let known = self.call("media.query", &[])?.media_query();
        // A question stops the guest.
        Ok(known.map_err(|MediaAsk| Refused::Asked)?.map(call))
    }
}

fn stage(guest: &mut Guest, name: &'static str, action: Action, flags: &str) -> Staged {
    let staged = guest.call(name, &[flags])?.media(action, flags);
    Ok(staged.map_err(|refusal| match refusal {
        MediaRefusal::Off => MediaError::Off,
        MediaRefusal::Flags(text) => MediaError::BadFlags(text),
        MediaRefusal::NoDescription => MediaError::NoDescription,
    }))
}

fn call(view: CallView) -> Call {
    let streams = view.streams.into_iter().map(stream).collect();
    Call { age_s: view.age_s, answered: view.answered, streams }
}

fn stream(view: StreamView) -> Stream {
    Stream { kind: view.kind.into(), caller: leg(&view.caller), callee: leg(&view.callee) }
}

fn leg(view: &LegView) -> Leg {
    Leg {
        local: view.local.to_string(),
        peer: view.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        locked: view.locked,
        packets: view.packets,
        octets: view.octets,
        dropped: view.dropped,
        lost: view.lost,
        jitter_us: view.jitter_us,
        mos_centi: view.mos_centi,
    }
}
