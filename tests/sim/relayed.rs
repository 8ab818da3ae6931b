//! What must hold of media, whatever happens: no session outlives its call or its timers, no port is
//! two calls', and phones are told addresses of the relay.

use viaduct_engine::media::{Action, Media as _, MediaFlags, MediaMessage, Order, Tags};
use viaduct_message::Method;

use crate::call::{Leg, Media};
use crate::relay::{self, HELD_S, IDLE_S, LIFETIME_S, PORTS_A_CALL, UNANSWERED_S};
use crate::router::Router;
use crate::sdp::description;
use crate::world::World;

/// A session is looked after once a second, and not while its router is down.
const SLACK_US: u64 = 25_000_000;
/// How long requests and answers are still on their way when a call is over for its caller.
const ON_ITS_WAY_US: u64 = 40_000_000;

/// Looks at all of it.
pub(crate) fn media_are_as_signalled(world: &World) -> Result<(), String> {
    let Some(registrar) = world.routers.get(1) else { return Ok(()) };
    let Some((rig, _)) = &registrar.rig else { return Ok(()) };
    if let Some(broken) = rig.broken() {
        return Err(broken);
    }
    if registrar.media().is_some() {
        sessions_belong_to_calls(world, registrar)?;
        media_end_with_their_calls(world, registrar)?;
    }
    phones_are_told_the_relay(world)
}

/// R-M2, the limits of the configuration: no session without a call, and none that is too old.
fn sessions_belong_to_calls(world: &World, registrar: &Router) -> Result<(), String> {
    let (Some((rig, _)), Some(media)) = (&registrar.rig, registrar.media()) else { return Ok(()) };
    let calls = media.list(registrar.now(world.now_us), 1_000);
    let streams = calls.iter().flat_map(|call| &call.view.streams);
    let ports: Vec<_> = streams.map(|stream| [stream.caller.local, stream.callee.local]).collect();
    for (id, held) in rig.held() {
        // RTCP is on the port behind that of RTP.
        let rtp = held.locals.map(|mut local| {
            local.set_port(local.port() & !1);
            local
        });
        if !ports.contains(&rtp) {
            return Err(format!("session {id} at {:?} is of no call", held.locals));
        }
        let limit_us = LIFETIME_S * 1_000_000 + world.jumped_ms * 1_000 + SLACK_US;
        if world.now_us > held.began_us + limit_us {
            return Err(format!("session {id} of {} us is older than it may be", held.began_us));
        }
    }
    Ok(())
}

/// A call that is over has no media: at once where all went well, and otherwise when the timers say
/// so.
fn media_end_with_their_calls(world: &World, registrar: &Router) -> Result<(), String> {
    let Some(media) = registrar.media() else { return Ok(()) };
    for call in media.list(registrar.now(world.now_us), 1_000) {
        let calls =
            world.phones.iter().flat_map(|phone| phone.legs.iter().map(move |l| (phone, l)));
        let mut calls = calls.filter(|(_, (call_id, _))| ***call_id == *call.call_id);
        let Some((phone, (call_id, leg))) = calls.next() else {
            return Err(format!("media of {}, which nobody has made", call.call_id));
        };
        let Some(over_us) = leg.over_us else { continue };
        let hurt = world.is_hurt(call_id, leg.began_us)
            || phone.crashed_us.is_some_and(|crashed_us| crashed_us >= leg.began_us);
        // BYE and its 200 have come by, or the final answer is the registrar's.
        let ended = leg.ended == Some(200) && leg.dialogs() == 1 && is_only_one(world, call_id);
        let refused = leg.dialogs() == 0 && phone.proxy == registrar.role.at();
        if (ended || refused) && !hurt {
            return Err(format!("{call_id} is over since {over_us} us, its media are not"));
        }
        let timers_s = UNANSWERED_S + HELD_S.max(IDLE_S.into());
        let limit_us = timers_s * 1_000_000 + ON_ITS_WAY_US + SLACK_US + world.jumped_ms * 1_000;
        if world.now_us > over_us + limit_us {
            return Err(format!("{call_id} is over since {over_us} us, its media never are"));
        }
    }
    Ok(())
}

/// At most one phone has answered.
fn is_only_one(world: &World, call_id: &str) -> bool {
    let served = world.phones.iter().flat_map(|phone| phone.served.values());
    served.filter(|served| served.taken() == Some(call_id)).count() <= 1
}

/// R-M1: both ends of an answered call are told addresses of the relay, each always the same, and
/// not one for both. Until BYE: a 2xx or ACK that it overtakes is passed on as it is.
fn phones_are_told_the_relay(world: &World) -> Result<(), String> {
    let calls = world.phones.iter().flat_map(|phone| &phone.legs);
    for (call_id, leg) in calls.filter(|(_, leg)| is_plain(world, leg)) {
        if world.is_hurt(call_id, leg.began_us) || !is_only_one(world, call_id) {
            continue;
        }
        let served = world.phones.iter().flat_map(|phone| phone.served.values());
        let served = served.filter(|served| served.taken() == Some(call_id));
        let callee = served.map(|served| &served.media).next();
        let told = |end: Option<&Media>| end.map_or(Vec::new(), |media| media.told.clone());
        let ends = [told(Some(&leg.media)), told(callee)];
        for told in &ends {
            if told.len() > 1 || told.iter().any(|at| !relay::is_ours(*at)) {
                return Err(format!("{call_id}: a phone was told to send to {told:?}"));
            }
        }
        if let [[a], [b]] = ends.each_ref().map(Vec::as_slice)
            && a == b
        {
            return Err(format!("{call_id}: both phones were told to send to {a}"));
        }
    }
    Ok(())
}

/// Under way, with one phone, and answered in the lives of the routers that were asked.
fn is_plain(world: &World, leg: &Leg) -> bool {
    world.plan.media > 0 && leg.talks() && leg.dialogs() == 1 && leg.lives[0] == leg.lives[1]
}

/// When nobody does anything any more, no call, session or port is left.
pub(crate) fn nothing_is_left(world: &World) -> Result<(), String> {
    let Some(registrar) = world.routers.get(1) else { return Ok(()) };
    let (Some((rig, calls)), Some(media)) = (&registrar.rig, registrar.media()) else {
        return Ok(());
    };
    let (left, held) = (media.numbers().calls, rig.held());
    if left > 0 || !held.is_empty() {
        return Err(format!("media of {left} calls are left, and sessions: {held:?}"));
    }
    // Ports that rest are looked at when one is asked for.
    let now = registrar.now(world.now_us);
    let source = [203, 0, 113, 1].into();
    let body = description((source, 4_000).into());
    let tags = Tags { call_id: b"probe", from: b"probe", to: b"" };
    let probe = MediaMessage {
        tags,
        method: Method::Invite,
        status: 0,
        branch: None,
        source,
        local: relay::address(),
        content_type: b"application/sdp",
        body: body.as_bytes(),
    };
    let order = Order { action: Action::Offer, flags: MediaFlags::default() };
    media.handle(now, &order, &probe).map_err(|fault| format!("no call is taken: {fault}"))?;
    let (free, all) = (media.numbers().ports_free, u64::from(*calls) * PORTS_A_CALL);
    media.refused(now, tags, None);
    if free + PORTS_A_CALL != all {
        return Err(format!("{free} of {all} ports are free beside one call"));
    }
    Ok(())
}
