//! INVITE client transaction: RFC 3261 17.1.1 and figure 5, with the Accepted state of RFC 6026
//! 7.2 in place of figure 5's way from a 2xx to Terminated.

use super::{Actions, Step, absorb, go};
use crate::timer::Letter;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The INVITE is being sent; no response yet.
    Calling,
    /// A provisional response has come. No timer of the transaction ends this state: the proxy core
    /// does, by timer C (RFC 3261 16.6 step 11) and [`Event::Abandon`].
    Proceeding,
    /// A 3xx-6xx has come and was acknowledged; waiting for its retransmissions.
    Completed,
    /// A 2xx has come; waiting for more of them.
    Accepted,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A 1xx with our branch.
    Provisional,
    /// A 2xx with our branch.
    Success,
    /// A 3xx-6xx with our branch.
    Failure,
    /// Timer A fell due.
    TimerA,
    /// Timer B fell due.
    TimerB,
    /// Timer D fell due.
    TimerD,
    /// Timer M fell due.
    TimerM,
    /// The transport could not send the INVITE or the ACK.
    TransportError,
    /// The TU waits no longer: timer C, or 64*T1 after its CANCEL (RFC 3261 9.1, 16.8).
    Abandon,
}

impl State {
    /// All states, in the order of the RFC's figure.
    pub const ALL: [State; 5] = {
        use State::*;
        [Calling, Proceeding, Completed, Accepted, Terminated]
    };
}

impl Event {
    /// All events.
    pub const ALL: [Event; 9] = {
        use Event::*;
        [Provisional, Success, Failure, TimerA, TimerB, TimerD, TimerM, TransportError, Abandon]
    };

    /// The event of a response with this status; `None` outside 100 to 699.
    pub fn of_status(status: u16) -> Option<Event> {
        match status {
            100..=199 => Some(Event::Provisional),
            200..=299 => Some(Event::Success),
            300..=699 => Some(Event::Failure),
            _ => None,
        }
    }

    /// The event of a timer; `None` for letters this machine does not have.
    pub fn of_timer(letter: Letter) -> Option<Event> {
        match letter {
            Letter::A => Some(Event::TimerA),
            Letter::B => Some(Event::TimerB),
            Letter::D => Some(Event::TimerD),
            Letter::M => Some(Event::TimerM),
            _ => None,
        }
    }
}

/// RFC 3261 17.1.1.2: the INVITE goes out and timer B starts; timer A only where packets get lost.
pub fn start(reliable: bool) -> Step<State> {
    let send = Actions::SEND_REQUEST | Actions::ARM_B;
    let actions = if reliable { send } else { send | Actions::ARM_A };
    Step { next: State::Calling, actions }
}

/// One cell of the table. `None`: the event has no meaning in the state, ignore it.
pub fn step(state: State, event: Event, reliable: bool) -> Option<Step<State>> {
    use Event as E;
    use State as S;
    match (state, event) {
        // 17.1.1.2, figure 5. Timer A is not armed on reliable transports.
        (S::Calling, E::TimerA) if reliable => None,
        (S::Calling, E::TimerA) => go(S::Calling, Actions::SEND_REQUEST | Actions::ARM_A),
        (S::Calling, E::TimerB) => go(S::Terminated, Actions::INFORM_TIMEOUT | Actions::FORGET),
        (S::Calling | S::Completed, E::TransportError) => {
            // 17.1.4. Nothing is sent in Proceeding and Accepted, so it means nothing there: a
            // datagram reported as lost after a response has come was a retransmission's.
            go(S::Terminated, Actions::INFORM_TRANSPORT | Actions::FORGET)
        }

        // 17.1.1.2: every provisional is passed up; retransmissions stop, as A and B are ignored
        // from here on.
        (S::Calling | S::Proceeding, E::Provisional) => go(S::Proceeding, Actions::PASS_RESPONSE),

        // RFC 6026 7.2: a 2xx is passed up, and so are those that follow until M ends it. The ACK
        // to a 2xx is the UAC core's, never the transaction's.
        (S::Calling | S::Proceeding, E::Success) => {
            go(S::Accepted, Actions::PASS_RESPONSE | Actions::ARM_M)
        }
        (S::Accepted, E::Success) => go(S::Accepted, Actions::PASS_RESPONSE),
        (S::Accepted, E::TimerM) => go(S::Terminated, Actions::FORGET),
        // RFC 6026 7.2 leaves these without meaning: a UAS that accepted cannot take it back.
        (S::Accepted, E::Provisional | E::Failure) => absorb(S::Accepted),

        // 17.1.1.2: ACK, pass up, then wait for retransmissions, where those are possible.
        (S::Calling | S::Proceeding, E::Failure) => {
            let answer = Actions::SEND_ACK | Actions::PASS_RESPONSE;
            if reliable {
                go(S::Terminated, answer | Actions::FORGET)
            } else {
                go(S::Completed, answer | Actions::ARM_D)
            }
        }
        // 17.1.1.2: retransmissions are acknowledged again and not passed up.
        (S::Completed, E::Failure) => go(S::Completed, Actions::SEND_ACK),
        (S::Completed, E::TimerD) => go(S::Terminated, Actions::FORGET),
        // Provisionals overtaken by the final response; and figure 5 has no way for a 2xx that
        // comes after a 3xx-6xx.
        (S::Completed, E::Provisional | E::Success) => absorb(S::Completed),

        (S::Calling | S::Proceeding, E::Abandon) => go(S::Terminated, Actions::FORGET),

        // Stale timers; the TU has nothing to abandon once a final response has come.
        (S::Proceeding, E::TimerA | E::TimerB | E::TimerD | E::TimerM | E::TransportError)
        | (S::Calling, E::TimerD | E::TimerM)
        | (S::Completed, E::TimerA | E::TimerB | E::TimerM | E::Abandon)
        | (S::Accepted, E::TimerA | E::TimerB | E::TimerD | E::TransportError | E::Abandon)
        | (S::Terminated, _) => None,
    }
}
