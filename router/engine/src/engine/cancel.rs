//! CANCEL: taking one from a client, and sending ours to branches (RFC 3261 9, 16.7 step 10,
//! 16.10).

use super::Engine;
use super::client::{Cancelling, Client, ClientMachine};
use super::decide::Incoming;
use super::ids::Id;
use super::respond::Answer;
use crate::hook::Policy;
use crate::proxy::derived;
use crate::run::Run;
use crate::timer::Letter;
use crate::transaction::{duration_us, invite_client};

impl<P: Policy> Engine<P> {
    /// A CANCEL of a request we have: 200 at once, then the branches (RFC 3261 16.10).
    ///
    /// It is a transaction of its own (9.2): one that is sent again, because its 200 was lost, finds
    /// that answer even when the INVITE's transaction has ended, and is not taken for the CANCEL of
    /// somebody else's request and passed on.
    pub(super) fn on_cancel(&mut self, incoming: Box<Incoming>, run: Box<Run>) {
        let invite = self.keys.get(&incoming.key.for_invite()).copied();
        let answer = Answer::new(200, "");
        if self.servers.len() < self.settings.bounds.transactions {
            let version = self.policy.current();
            let id = self.open_server(&incoming, version, &run);
            self.respond_own(id, run.message(), &answer);
            self.give_back(id);
        } else {
            self.respond_stateless(run.message(), &incoming.back, &answer);
        }
        self.put_run(run);
        // A CANCEL has no effect on other requests than INVITE (9.1, 9.2).
        let Some(id) = invite else { return };
        let Some(server) = self.server(id) else { return };
        let has_final = server.waiting_reply.as_ref().is_some_and(|reply| reply.is_final());
        if server.finished || has_final {
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
