//! What a step of a transaction asks its owner to do.

use std::fmt;
use std::ops::BitOr;

use crate::timer::Letter;

/// A set of actions, four bytes. Bits 0 to 15 arm the timer of that [`Letter`] number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Actions(u32);

impl Actions {
    /// Do nothing.
    pub const NONE: Actions = Actions(0);

    /// Arm timer A with its next interval.
    pub const ARM_A: Actions = Actions::arm(Letter::A);
    /// Arm timer B.
    pub const ARM_B: Actions = Actions::arm(Letter::B);
    /// Arm timer D.
    pub const ARM_D: Actions = Actions::arm(Letter::D);
    /// Arm timer E with its next interval.
    pub const ARM_E: Actions = Actions::arm(Letter::E);
    /// Arm timer F.
    pub const ARM_F: Actions = Actions::arm(Letter::F);
    /// Arm timer G with its next interval.
    pub const ARM_G: Actions = Actions::arm(Letter::G);
    /// Arm timer H.
    pub const ARM_H: Actions = Actions::arm(Letter::H);
    /// Arm timer I.
    pub const ARM_I: Actions = Actions::arm(Letter::I);
    /// Arm timer J.
    pub const ARM_J: Actions = Actions::arm(Letter::J);
    /// Arm timer K.
    pub const ARM_K: Actions = Actions::arm(Letter::K);
    /// Arm timer L.
    pub const ARM_L: Actions = Actions::arm(Letter::L);
    /// Arm timer M.
    pub const ARM_M: Actions = Actions::arm(Letter::M);
    /// Arm the timer for the 100 to an INVITE. Not needed where the TU sends its 100 at once.
    pub const ARM_TRYING: Actions = Actions::arm(Letter::Trying);
    /// Arm the timer for the 100 to a non-INVITE.
    pub const ARM_LATE_TRYING: Actions = Actions::arm(Letter::LateTrying);

    /// Send the request, or send it again, byte for byte.
    pub const SEND_REQUEST: Actions = Actions(1 << 16);
    /// Send an ACK for the final response just received (RFC 3261 17.1.1.3).
    pub const SEND_ACK: Actions = Actions(1 << 17);
    /// Send the response the TU has given, and keep it for [`Actions::RESEND_RESPONSE`].
    pub const SEND_RESPONSE: Actions = Actions(1 << 18);
    /// Send the response last sent once more; nothing, where none has been sent yet.
    pub const RESEND_RESPONSE: Actions = Actions(1 << 19);
    /// Send a 100 (Trying) and keep it, unless a response has been sent already.
    pub const SEND_TRYING: Actions = Actions(1 << 20);
    /// From now on the interval of timer E is T2: arm it with [`super::duration::AT_T2`].
    pub const E_AT_T2: Actions = Actions(1 << 21);
    /// Give the response to the TU.
    pub const PASS_RESPONSE: Actions = Actions(1 << 22);
    /// Give the request (or the ACK to a 2xx) to the TU.
    pub const PASS_REQUEST: Actions = Actions(1 << 23);
    /// Tell the TU that the transaction timed out.
    pub const INFORM_TIMEOUT: Actions = Actions(1 << 24);
    /// Tell the TU that the transport failed.
    pub const INFORM_TRANSPORT: Actions = Actions(1 << 25);
    /// Destroy the transaction, after everything else.
    pub const FORGET: Actions = Actions(1 << 26);

    const NAMED: [(Actions, &'static str); 11] = [
        (Actions::SEND_REQUEST, "SendRequest"),
        (Actions::SEND_ACK, "SendAck"),
        (Actions::SEND_RESPONSE, "SendResponse"),
        (Actions::RESEND_RESPONSE, "ResendResponse"),
        (Actions::SEND_TRYING, "SendTrying"),
        (Actions::E_AT_T2, "EAtT2"),
        (Actions::PASS_RESPONSE, "PassResponse"),
        (Actions::PASS_REQUEST, "PassRequest"),
        (Actions::INFORM_TIMEOUT, "InformTimeout"),
        (Actions::INFORM_TRANSPORT, "InformTransport"),
        (Actions::FORGET, "Forget"),
    ];

    /// Arm the timer of that letter.
    pub const fn arm(letter: Letter) -> Actions {
        Actions(1 << letter as u32)
    }

    /// Are all of `other` in the set?
    pub const fn has(self, other: Actions) -> bool {
        self.0 & other.0 == other.0
    }

    /// Nothing to do.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The letters to arm, in alphabetical order.
    pub fn armed(self) -> impl Iterator<Item = Letter> {
        Letter::ALL.into_iter().filter(move |letter| self.has(Actions::arm(*letter)))
    }

    /// Each action of the set alone, in the order to do them: arm, send, pass up, destroy. Arming
    /// before passing up matters: the TU may destroy the transaction or step it again.
    pub fn iter(self) -> impl Iterator<Item = Actions> {
        (0..u32::BITS).map(|bit| Actions(1 << bit)).filter(move |one| self.has(*one))
    }
}

impl BitOr for Actions {
    type Output = Actions;
    fn bitor(self, other: Actions) -> Actions {
        Actions(self.0 | other.0)
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for letter in self.armed() {
            write!(f, "{separator}Arm{}", letter.name())?;
            separator = " ";
        }
        for (action, name) in Actions::NAMED {
            if self.has(action) {
                write!(f, "{separator}{name}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actions({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_actions_share_a_bit_and_all_are_named() {
        let mut all = Actions::NONE;
        for (action, name) in Actions::NAMED {
            assert!(!all.has(action), "{name}");
            all = all | action;
        }
        for letter in Letter::ALL {
            assert!(!all.has(Actions::arm(letter)), "{letter:?}");
            all = all | Actions::arm(letter);
        }
        assert_eq!(all.to_string().split(' ').count(), all.iter().count());
    }

    #[test]
    fn a_set_iterates_in_the_order_of_doing_and_prints_the_same_way() {
        let set = Actions::FORGET | Actions::SEND_ACK | Actions::PASS_RESPONSE | Actions::ARM_D;
        let order = [Actions::ARM_D, Actions::SEND_ACK, Actions::PASS_RESPONSE, Actions::FORGET];
        assert_eq!(set.iter().collect::<Vec<_>>(), order);
        assert_eq!(set.to_string(), "ArmD SendAck PassResponse Forget");
        assert_eq!(set.armed().collect::<Vec<_>>(), [Letter::D]);
        assert_eq!(Actions::NONE.iter().count(), 0);
        assert!(set.has(Actions::SEND_ACK) && !set.has(Actions::SEND_ACK | Actions::ARM_A));
    }
}
