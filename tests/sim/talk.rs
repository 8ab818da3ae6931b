//! Phones talk: their packets go to where they were told to send, and by the relay to each other.

use std::net::SocketAddr;

use crate::plan::Act;
use crate::router::Router;
use crate::world::World;

/// Both know where to send for so long: each must have been heard.
const ENOUGH_US: u64 = 3_000_000;

impl World {
    /// Everybody in a call sends a packet.
    pub(crate) fn talk(&mut self) -> Result<(), String> {
        for caller in 0..self.phones.len() {
            let Some(phone) = self.phones.get(caller) else { continue };
            let calls = phone.legs.iter().filter(|(_, leg)| leg.talks() && leg.dialogs() == 1);
            let calls: Vec<String> = calls.map(|(call_id, _)| call_id.clone()).collect();
            for call_id in calls {
                if let Some(other) = self.only_callee(&call_id) {
                    self.talk_in((caller, &call_id), other)?;
                }
            }
        }
        Ok(())
    }

    /// Who has answered a call, where that is one phone: its index and the branch.
    fn only_callee(&self, call_id: &str) -> Option<(usize, String)> {
        let phones = self.phones.iter().enumerate();
        let mut takers = phones.flat_map(|(index, phone)| {
            let taken = phone.served.iter().filter(|(_, s)| s.taken() == Some(call_id));
            taken.map(move |(branch, _)| (index, branch.clone()))
        });
        takers.next().filter(|_| takers.next().is_none())
    }

    fn talk_in(
        &mut self,
        (caller, call_id): (usize, &str),
        (callee, branch): (usize, String),
    ) -> Result<(), String> {
        let now_us = self.now_us;
        let ends = self.phones.get(caller).and_then(|phone| phone.legs.get(call_id));
        let Some(leg) = ends else { return Ok(()) };
        let other = self.phones.get(callee).and_then(|phone| phone.served.get(&branch));
        let Some(other) = other.map(|served| &served.media) else { return Ok(()) };
        let (Some(from_a), Some(from_b)) = (leg.media.told.last(), other.told.last()) else {
            return Ok(());
        };
        let [a, b] = [(caller, leg.media.at), (callee, other.at)]
            .map(|(phone, at)| self.outside_media(phone, at));
        // A router that is down relays nothing, and learns anew when it is up.
        let is_up = self.routers.iter().all(Router::is_up);
        let since_us = leg.media.since_us.filter(|_| is_up).unwrap_or(now_us);
        let rig = self.routers.get(1).and_then(|router| router.rig.as_ref());
        let Some((rig, _)) = rig else { return Ok(()) };
        rig.set_now(now_us);
        let heard = [rig.packet(a, *from_a) == Some(b), rig.packet(b, *from_b) == Some(a)];
        let (began_us, before) = (leg.began_us, [leg.media.heard, other.heard]);
        let mut counts = before;
        for (count, heard) in counts.iter_mut().zip(heard) {
            *count += u32::from(heard);
        }
        if now_us > since_us + ENOUGH_US && counts.contains(&0) && !self.is_hurt(call_id, began_us)
        {
            return Err(format!("{call_id}: the phones do not hear each other: {counts:?}"));
        }
        self.tally.heard_calls += u64::from(before.contains(&0) && !counts.contains(&0));
        let leg = self.phones.get_mut(caller).and_then(|phone| phone.legs.get_mut(call_id));
        if let Some(leg) = leg {
            (leg.media.heard, leg.media.since_us) = (counts[0], Some(since_us));
        }
        let served = self.phones.get_mut(callee).and_then(|phone| phone.served.get_mut(&branch));
        if let Some(served) = served {
            served.media.heard = counts[1];
        }
        Ok(())
    }

    /// Where a phone's media come from, as the relay sees it.
    fn outside_media(&self, phone: usize, at: SocketAddr) -> SocketAddr {
        let phone = self.phones.get(phone).map_or(at, |phone| phone.at);
        SocketAddr::new(self.network.outside(phone).ip(), at.port())
    }

    /// Something has happened that may have cost this call its media.
    pub(crate) fn is_hurt(&self, call_id: &str, began_us: u64) -> bool {
        self.routers.iter().any(|router| {
            router.watch.is_hurt(call_id)
                || router.media_lost_us.is_some_and(|lost_us| lost_us >= began_us)
        })
    }

    /// Faults of the relay.
    pub(crate) fn break_relay(&mut self, act: Act) {
        let now_us = self.now_us;
        let Some(router) = self.routers.get_mut(1) else { return };
        let Some((rig, _)) = &router.rig else { return };
        rig.set_now(now_us);
        match act {
            Act::RelayLoses => {
                rig.lose();
                router.media_lost_us = Some(now_us);
            }
            Act::RelayFull { for_us } => rig.fill(now_us + for_us),
            Act::Kill { phone } => {
                let legs = self.phones.get(phone).map(|phone| phone.legs.iter());
                let last = legs.and_then(|legs| legs.max_by_key(|(_, leg)| leg.began_us));
                let Some((call_id, _)) = last else { return };
                if let Some(media) = router.media() {
                    media.kill(router.now(now_us), call_id.as_bytes());
                }
                router.watch.hurt(call_id.as_bytes());
            }
            _ => {}
        }
    }
}
