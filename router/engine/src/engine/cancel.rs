//! CANCEL: taking one from a client, and sending ours to branches (RFC 3261 9, 16.7 step 10,
//! 16.10).

use viaduct_message::Message;

use super::Engine;
use super::client::{Cancelling, Client, ClientMachine};
use super::ids::Id;
use super::respond::Answer;
use crate::flow::Flow;
use crate::hook::Policy;
use crate::proxy::derived;
use crate::timer::Letter;
use crate::transaction::{ServerKey, duration_us, invite_client};

impl<P: Policy> Engine<P> {
    /// A CANCEL from a client: 200 at once, then the branches (RFC 3261 16.10). Without a matching
    /// INVITE it is passed on without state, or 481 where it is meant for us.
    pub(super) fn on_cancel(&mut self, message: Message<'_>, key: ServerKey, flow: Flow) {
        let invite = self.keys.get(&key.for_invite()).copied();
        let Some(id) = invite else {
            // 9.2: a CANCEL has no effect on other requests, but it is answered.
            let other = key.cancelled().any(|key| self.keys.contains_key(&key));
            return match other {
                true => self.respond_rough(message, flow, &Answer::new(200, "")),
                false => self.forward_stray(message, flow),
            };
        };
        self.respond_rough(message, flow, &Answer::new(200, ""));
        let Some(server) = self.server(id) else { return };
        if server.finished {
            return; // 9.2: too late
        }
        server.cancelled = true;
        self.close_context(id);
        let open = self.server(id).is_some_and(|server| {
            server.branches.iter().any(|state| state.status == 0 && state.client.is_some())
        });
        if !open {
            // Nothing has been sent yet (a name is being looked up, a commit is under way).
            self.respond_later(id, &Answer::new(487, ""));
            self.give_back(id);
        }
    }

    /// No new branches, and CANCEL to those still open.
    pub(super) fn close_context(&mut self, id: Id) {
        let Some(server) = self.server(id) else { return };
        server.closed = true;
        server.waiting.clear();
        if !server.machine.is_invite() {
            return;
        }
        let mut clients = smallvec::SmallVec::<[Id; 4]>::new();
        for state in &mut server.branches {
            match state.client {
                Some(client) if state.status == 0 => clients.push(client),
                // Not sent yet: it never will be.
                None if state.status == 0 => state.status = 487,
                _ => {}
            }
        }
        for client in clients {
            self.cancel_branch(client);
        }
    }

    /// RFC 3261 9.1: a CANCEL goes out only once a provisional has come.
    fn cancel_branch(&mut self, id: Id) {
        let Some(client) = self.client(id) else { return };
        if client.cancelling == Cancelling::No {
            client.cancelling = Cancelling::Wanted;
        }
        self.send_wanted_cancel(id);
    }

    /// Sends the CANCEL a branch waits to send, where it may be sent now.
    pub(super) fn send_wanted_cancel(&mut self, id: Id) {
        let Some(client) = self.client(id) else { return };
        let proceeding = ClientMachine::Invite(invite_client::State::Proceeding);
        if client.cancelling != Cancelling::Wanted || client.machine != proceeding {
            return;
        }
        let flow = client.flow;
        let Some(request) = self.cancel_of(id) else { return };
        let generation = self.next_generation();
        let (machine, actions) = ClientMachine::start(false, flow.transport.is_reliable());
        let slot = self.clients.insert(Client {
            generation,
            machine,
            owner: None,
            flow,
            may_open: false,
            request,
            attempt: 0,
            c_deadline_us: u64::MAX,
            cancelling: Cancelling::No,
        });
        let cancel = Id { slot: slot as u32, generation };
        // 9.1: without a final response 64*T1 after the CANCEL, the INVITE counts as cancelled.
        let now_us = self.now.mono_us;
        let after = duration_us(Letter::Watch, 0, false, &self.settings.timers);
        if let Some(client) = self.client(id) {
            client.cancelling = Cancelling::Sent(cancel);
            let generation = client.generation;
            self.timers.arm(now_us, after, Letter::Watch, id.slot, generation);
        }
        self.client_actions(cancel, actions, None);
    }

    fn cancel_of(&mut self, id: Id) -> Option<Box<[u8]>> {
        let mut run = self.take_run();
        let limits = self.settings.bounds.message;
        let mut out = Vec::new();
        if let Some(client) = self.clients.get(id.slot as usize) {
            run.bytes.clear();
            run.bytes.extend_from_slice(&client.request);
            if run.head.scan(&run.bytes, &limits).is_ok() {
                derived::write_cancel(run.message(), &mut out);
            }
        }
        self.put_run(run);
        (!out.is_empty()).then(|| out.into_boxed_slice())
    }
}
