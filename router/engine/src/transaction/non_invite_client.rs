//! Non-INVITE client transaction: RFC 3261 17.1.2 and figure 6.
//!
//! RFC 4320 changes nothing in the machine, only what the TU makes of its end: a timeout must not
//! become a 408 to the client (4.2).

use super::{Actions, Step, absorb, go};
use crate::timer::Letter;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The request is being sent; no response yet.
    Trying,
    /// A provisional response has come; the request is repeated every T2.
    Proceeding,
    /// A final response has come; waiting for its retransmissions.
    Completed,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A 1xx with our branch and method.
    Provisional,
    /// A 2xx-6xx with our branch and method.
    Final,
    /// Timer E fell due.
    TimerE,
    /// Timer F fell due.
    TimerF,
    /// Timer K fell due.
    TimerK,
    /// The transport could not send the request.
    TransportError,
    /// The TU waits no longer.
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
        [Provisional, Final, TimerE, TimerF, TimerK, TransportError, Abandon]
    };

    /// The event of a response with this status; `None` outside 100 to 699.
    pub fn of_status(status: u16) -> Option<Event> {
        match status {
            100..=199 => Some(Event::Provisional),
            200..=699 => Some(Event::Final),
            _ => None,
        }
    }

    /// The event of a timer; `None` for letters this machine does not have.
    pub fn of_timer(letter: Letter) -> Option<Event> {
        match letter {
            Letter::E => Some(Event::TimerE),
            Letter::F => Some(Event::TimerF),
            Letter::K => Some(Event::TimerK),
            _ => None,
        }
    }
}

/// RFC 3261 17.1.2.2: the request goes out and timer F starts; timer E only where packets get lost.
pub fn start(reliable: bool) -> Step<State> {
    let send = Actions::SEND_REQUEST | Actions::ARM_F;
    let actions = if reliable { send } else { send | Actions::ARM_E };
    Step { next: State::Trying, actions }
}

/// One cell of the table. `None`: the event has no meaning in the state, ignore it.
pub fn step(state: State, event: Event, reliable: bool) -> Option<Step<State>> {
    use Event as E;
    use State as S;
    match (state, event) {
        // 17.1.2.2, figure 6. Timer E is not armed on reliable transports.
        (S::Trying | S::Proceeding, E::TimerE) if reliable => None,
        (S::Trying, E::TimerE) => go(S::Trying, Actions::SEND_REQUEST | Actions::ARM_E),
        // 17.1.2.2: in Proceeding the interval is T2. The E that runs when the provisional comes
        // is left to run out.
        (S::Proceeding, E::TimerE) => {
            go(S::Proceeding, Actions::SEND_REQUEST | Actions::ARM_E | Actions::E_AT_T2)
        }
        (S::Trying | S::Proceeding, E::TimerF) => {
            go(S::Terminated, Actions::INFORM_TIMEOUT | Actions::FORGET)
        }
        // 17.1.4, figure 6: requests are sent in both states.
        (S::Trying | S::Proceeding, E::TransportError) => {
            go(S::Terminated, Actions::INFORM_TRANSPORT | Actions::FORGET)
        }

        (S::Trying | S::Proceeding, E::Provisional) => go(S::Proceeding, Actions::PASS_RESPONSE),
        (S::Trying | S::Proceeding, E::Final) => {
            if reliable {
                go(S::Terminated, Actions::PASS_RESPONSE | Actions::FORGET)
            } else {
                go(S::Completed, Actions::PASS_RESPONSE | Actions::ARM_K)
            }
        }
        (S::Trying | S::Proceeding, E::Abandon) => go(S::Terminated, Actions::FORGET),

        // 17.1.2.2: Completed is there to buffer retransmissions of the response.
        (S::Completed, E::Provisional | E::Final) => absorb(S::Completed),
        (S::Completed, E::TimerK) => go(S::Terminated, Actions::FORGET),

        // Stale timers; nothing is sent in Completed.
        (S::Trying | S::Proceeding, E::TimerK)
        | (S::Completed, E::TimerE | E::TimerF | E::TransportError | E::Abandon)
        | (S::Terminated, _) => None,
    }
}
