//! Non-INVITE server transaction: RFC 3261 17.2.2 and figure 8, with RFC 4320 for the 100 and for
//! late responses.
//!
//! RFC 4320 binds the TU too: no provisional but 100 (4.1), never a 408 (4.2). A TU that has no
//! answer to give abandons the transaction, and what it sends after the end goes nowhere.

use super::{Actions, Step, absorb, go};
use crate::timer::Letter;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The TU works on the request; nothing has been sent. Only the TU ends this state and the
    /// next; its branches end by their own timers F.
    Trying,
    /// A 100 has been sent.
    Proceeding,
    /// A final response has been sent; repeating it for retransmissions of the request.
    Completed,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The request came again.
    Request,
    /// The TU gives a 1xx.
    TuProvisional,
    /// The TU gives a 2xx-6xx.
    TuFinal,
    /// Timer J fell due.
    TimerJ,
    /// A client's timer E would have reached T2 by now (RFC 4320 4.1).
    TimerLateTrying,
    /// The transport could not send a response.
    TransportError,
    /// The TU will not answer (RFC 4320 4.2: all branches timed out; a policy dropped the request).
    Abandon,
}

impl State {
    /// All states, in the order of the RFC's figure.
    pub const ALL: [State; 4] = {
        use State::*;
        [Trying, Proceeding, Completed, Terminated]
    };
}

impl Event {
    /// All events.
    pub const ALL: [Event; 7] = {
        use Event::*;
        [Request, TuProvisional, TuFinal, TimerJ, TimerLateTrying, TransportError, Abandon]
    };

    /// The event of the TU giving a response with this status; `None` outside 100 to 699.
    pub fn of_status(status: u16) -> Option<Event> {
        match status {
            100..=199 => Some(Event::TuProvisional),
            200..=699 => Some(Event::TuFinal),
            _ => None,
        }
    }

    /// The event of a timer; `None` for letters this machine does not have.
    pub fn of_timer(letter: Letter) -> Option<Event> {
        match letter {
            Letter::J => Some(Event::TimerJ),
            Letter::LateTrying => Some(Event::TimerLateTrying),
            _ => None,
        }
    }
}

/// RFC 3261 17.2.2: the request goes to the TU; RFC 4320 4.1: a 100 is due some time later.
/// `reliable` makes no difference here.
pub fn start(_reliable: bool) -> Step<State> {
    Step { next: State::Trying, actions: Actions::PASS_REQUEST | Actions::ARM_LATE_TRYING }
}

/// One cell of the table. `None`: the event has no meaning in the state, ignore it.
pub fn step(state: State, event: Event, reliable: bool) -> Option<Step<State>> {
    use Event as E;
    use State as S;
    match (state, event) {
        // 17.2.2: nothing has been sent that could be repeated.
        (S::Trying, E::Request) => absorb(S::Trying),
        // RFC 4320 4.1: MUST, on every transport.
        (S::Trying, E::TimerLateTrying) => go(S::Proceeding, Actions::SEND_TRYING),
        (S::Trying | S::Proceeding, E::TuProvisional) => go(S::Proceeding, Actions::SEND_RESPONSE),
        (S::Proceeding, E::Request) => go(S::Proceeding, Actions::RESEND_RESPONSE),

        // 17.2.2: timer J is zero where no retransmission can come.
        (S::Trying | S::Proceeding, E::TuFinal) => {
            if reliable {
                go(S::Terminated, Actions::SEND_RESPONSE | Actions::FORGET)
            } else {
                go(S::Completed, Actions::SEND_RESPONSE | Actions::ARM_J)
            }
        }
        (S::Trying | S::Proceeding, E::Abandon) => go(S::Terminated, Actions::FORGET),

        (S::Completed, E::Request) => go(S::Completed, Actions::RESEND_RESPONSE),
        // 17.2.2: any other response of the TU MUST be discarded.
        (S::Completed, E::TuProvisional | E::TuFinal) => absorb(S::Completed),
        (S::Completed, E::TimerJ) => go(S::Terminated, Actions::FORGET),

        // Figure 8 ends the transaction here; RFC 6026 8.8 replaces RFC 3261 17.2.4, which speaks
        // of all server transactions, and has it stay: the next retransmission may be answered.
        (S::Proceeding | S::Completed, E::TransportError) => go(state, Actions::INFORM_TRANSPORT),

        // Nothing is sent in Trying; stale timers. RFC 4320 4.2: no response after the end.
        (S::Trying, E::TimerJ | E::TransportError)
        | (S::Proceeding, E::TimerJ | E::TimerLateTrying)
        | (S::Completed, E::TimerLateTrying | E::Abandon)
        | (S::Terminated, _) => None,
    }
}
