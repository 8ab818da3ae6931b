//! INVITE server transaction: RFC 3261 17.2.1 and figure 7, with the Accepted state of RFC 6026
//! 7.1 in place of figure 7's way from a 2xx to Terminated.

use super::{Actions, Step, absorb, go};
use crate::timer::Letter;

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The TU works on the INVITE. Only the TU ends this state, by a final response or
    /// [`Event::Abandon`]; its branches end by their own timers B and C.
    Proceeding,
    /// A 3xx-6xx has been sent; waiting for the ACK.
    Completed,
    /// The ACK has come; waiting for its retransmissions.
    Confirmed,
    /// A 2xx has been sent; absorbing INVITE retransmissions.
    Accepted,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The INVITE came again.
    Request,
    /// An ACK matched the transaction.
    Ack,
    /// The TU gives a 1xx.
    TuProvisional,
    /// The TU gives a 2xx.
    TuSuccess,
    /// The TU gives a 3xx-6xx.
    TuFailure,
    /// Timer G fell due.
    TimerG,
    /// Timer H fell due.
    TimerH,
    /// Timer I fell due.
    TimerI,
    /// Timer L fell due.
    TimerL,
    /// 200 ms have passed since the INVITE came.
    TimerTrying,
    /// The transport could not send a response.
    TransportError,
    /// The TU will not answer (a policy dropped the request).
    Abandon,
}

impl State {
    /// All states, in the order of the RFC's figure.
    pub const ALL: [State; 5] = {
        use State::*;
        [Proceeding, Completed, Confirmed, Accepted, Terminated]
    };
}

impl Event {
    /// All events.
    pub const ALL: [Event; 12] = {
        use Event::*;
        [
            Request,
            Ack,
            TuProvisional,
            TuSuccess,
            TuFailure,
            TimerG,
            TimerH,
            TimerI,
            TimerL,
            TimerTrying,
            TransportError,
            Abandon,
        ]
    };

    /// The event of the TU giving a response with this status; `None` outside 100 to 699.
    pub fn of_status(status: u16) -> Option<Event> {
        match status {
            100..=199 => Some(Event::TuProvisional),
            200..=299 => Some(Event::TuSuccess),
            300..=699 => Some(Event::TuFailure),
            _ => None,
        }
    }

    /// The event of a timer; `None` for letters this machine does not have.
    pub fn of_timer(letter: Letter) -> Option<Event> {
        match letter {
            Letter::G => Some(Event::TimerG),
            Letter::H => Some(Event::TimerH),
            Letter::I => Some(Event::TimerI),
            Letter::L => Some(Event::TimerL),
            Letter::Trying => Some(Event::TimerTrying),
            _ => None,
        }
    }
}

/// RFC 3261 17.2.1: the INVITE goes to the TU, which has 200 ms until a 100 is due. `reliable`
/// makes no difference here.
pub fn start(_reliable: bool) -> Step<State> {
    Step { next: State::Proceeding, actions: Actions::PASS_REQUEST | Actions::ARM_TRYING }
}

/// One cell of the table. `None`: the event has no meaning in the state, ignore it.
pub fn step(state: State, event: Event, reliable: bool) -> Option<Step<State>> {
    use Event as E;
    use State as S;
    match (state, event) {
        // 17.2.1: a retransmission gets the most recent provisional, if there is one.
        (S::Proceeding, E::Request) => go(S::Proceeding, Actions::RESEND_RESPONSE),
        (S::Proceeding, E::TimerTrying) => go(S::Proceeding, Actions::SEND_TRYING),
        (S::Proceeding, E::TuProvisional) => go(S::Proceeding, Actions::SEND_RESPONSE),
        (S::Proceeding, E::TuSuccess) => {
            // RFC 6026 7.1, on every transport.
            go(S::Accepted, Actions::SEND_RESPONSE | Actions::ARM_L)
        }
        (S::Proceeding, E::TuFailure) => {
            // 17.2.1: H on every transport, G where packets get lost.
            let answer = Actions::SEND_RESPONSE | Actions::ARM_H;
            go(S::Completed, if reliable { answer } else { answer | Actions::ARM_G })
        }
        (S::Proceeding, E::Abandon) => go(S::Terminated, Actions::FORGET),

        // 17.2.1, figure 7.
        (S::Completed, E::Request) => go(S::Completed, Actions::RESEND_RESPONSE),
        (S::Completed, E::TimerG) if reliable => None,
        (S::Completed, E::TimerG) => go(S::Completed, Actions::RESEND_RESPONSE | Actions::ARM_G),
        (S::Completed, E::TimerH) => go(S::Terminated, Actions::INFORM_TIMEOUT | Actions::FORGET),
        (S::Completed, E::Ack) if reliable => go(S::Terminated, Actions::FORGET),
        (S::Completed, E::Ack) => go(S::Confirmed, Actions::ARM_I),
        // The transaction has given its final response; a proxy forwards a later 2xx without it
        // (16.7 step 5 and the note of step 10).
        (S::Completed, E::TuProvisional | E::TuSuccess | E::TuFailure) => absorb(S::Completed),

        // 17.2.1: Confirmed absorbs further ACKs; an INVITE here is late and needs no answer.
        (S::Confirmed, E::Ack | E::Request) => absorb(S::Confirmed),
        (S::Confirmed, E::TimerI) => go(S::Terminated, Actions::FORGET),

        // RFC 6026 7.1: INVITE retransmissions are absorbed without an answer, 2xx of the TU are
        // sent, ACKs go up.
        (S::Accepted, E::Request) => absorb(S::Accepted),
        (S::Accepted, E::TuSuccess) => go(S::Accepted, Actions::SEND_RESPONSE),
        (S::Accepted, E::Ack) => go(S::Accepted, Actions::PASS_REQUEST),
        (S::Accepted, E::TimerL) => go(S::Terminated, Actions::FORGET),
        // Branches of a fork that end after another one's 2xx has gone out.
        (S::Accepted, E::TuProvisional | E::TuFailure) => absorb(S::Accepted),

        // RFC 6026 8.8: the TU is told, and the transaction stays as it is, for what comes later
        // (a retransmission, a new connection) may succeed.
        (S::Proceeding | S::Completed | S::Accepted, E::TransportError) => {
            go(state, Actions::INFORM_TRANSPORT)
        }

        // An ACK before any final response; responses after the ACK; stale timers.
        (S::Proceeding, E::Ack | E::TimerG | E::TimerH | E::TimerI | E::TimerL)
        | (S::Completed, E::TimerI | E::TimerL | E::TimerTrying | E::Abandon)
        | (
            S::Confirmed,
            E::TuProvisional
            | E::TuSuccess
            | E::TuFailure
            | E::TimerG
            | E::TimerH
            | E::TimerL
            | E::TimerTrying
            | E::TransportError
            | E::Abandon,
        )
        | (S::Accepted, E::TimerG | E::TimerH | E::TimerI | E::TimerTrying | E::Abandon)
        | (S::Terminated, _) => None,
    }
}
