//! Timers that have fallen due.

use super::Engine;
use super::client::{Cancelling, ClientEvent, ClientMachine};
use super::ids::Id;
use super::server::ServerEvent;
use crate::hook::Policy;
use crate::timer::Letter;
use crate::transaction::invite_client;

/// Timers looked at for pruning in one tick: finished transactions leave theirs behind.
const PRUNE: usize = 512;

impl<P: Policy> Engine<P> {
    /// Runs what is due.
    pub(super) fn on_tick(&mut self) {
        while let Some(due) = self.timers.pop_due(self.now.mono_us) {
            let id = Id { slot: due.handle, generation: due.generation };
            match due.letter {
                Letter::G
                | Letter::H
                | Letter::I
                | Letter::J
                | Letter::L
                | Letter::Trying
                | Letter::LateTrying => self.server_event(id, ServerEvent::Timer(due.letter), &[]),
                Letter::C => self.on_timer_c(id),
                // A question's or a CANCEL's; generations are no slot's own, so it is one of them.
                Letter::Watch if self.is_asking(id) => self.on_ask_overdue(id),
                Letter::Watch => self.on_cancel_ignored(id),
                letter => {
                    if matches!(letter, Letter::A | Letter::E) && self.client(id).is_some() {
                        self.counters.retransmitted = self.counters.retransmitted.wrapping_add(1);
                    }
                    self.client_event(id, ClientEvent::Timer(letter));
                }
            }
        }
        self.prune_timers();
    }

    fn prune_timers(&mut self) {
        let live = self.transactions().saturating_mul(4).saturating_add(PRUNE);
        if self.timers.len() < live {
            return;
        }
        let (servers, clients) = (&self.servers, &self.clients);
        self.timers.prune(PRUNE, |letter, slot, generation| {
            let slot = slot as usize;
            match letter {
                Letter::G
                | Letter::H
                | Letter::I
                | Letter::J
                | Letter::L
                | Letter::Trying
                | Letter::LateTrying => {
                    servers.get(slot).is_some_and(|server| server.generation == generation)
                }
                Letter::Watch
                    if servers.get(slot).is_some_and(|server| server.generation == generation) =>
                {
                    true
                }
                _ => clients.get(slot).is_some_and(|client| client.generation == generation),
            }
        });
    }

    /// RFC 3261 16.8: with a provisional received, CANCEL; without, as if a 408 had come.
    fn on_timer_c(&mut self, id: Id) {
        let now_us = self.now.mono_us;
        let Some(client) = self.client(id) else { return };
        if client.c_deadline_us > now_us {
            // Provisional responses have pushed it on.
            let after = client.c_deadline_us.saturating_sub(now_us);
            let generation = client.generation;
            return self.timers.arm(now_us, after, Letter::C, id.slot, generation);
        }
        match client.machine {
            ClientMachine::Invite(invite_client::State::Proceeding) => {
                if client.cancelling == Cancelling::No {
                    client.cancelling = Cancelling::Wanted;
                }
                self.counters.timeouts = self.counters.timeouts.wrapping_add(1);
                self.send_wanted_cancel(id);
            }
            ClientMachine::Invite(invite_client::State::Calling) => self.abandon(id, 408),
            _ => {}
        }
    }

    /// RFC 3261 9.1: the branch did not end though it was cancelled.
    fn on_cancel_ignored(&mut self, id: Id) {
        self.abandon(id, 487);
    }

    fn abandon(&mut self, id: Id, status: u16) {
        let Some(client) = self.client(id) else { return };
        let waiting = matches!(
            client.machine,
            ClientMachine::Invite(invite_client::State::Calling | invite_client::State::Proceeding)
        );
        let owner = client.owner;
        if !waiting {
            return;
        }
        self.client_event(id, ClientEvent::Abandon);
        if let Some((server, branch)) = owner {
            self.end_branch(server, branch, status);
        }
    }
}
