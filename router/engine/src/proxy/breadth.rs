//! Max-Breadth (RFC 5393 5.3): how many branches of a request may be under way at a time, in all
//! the proxies it passes together.
//!
//! Where a request leaves less than we have targets of one priority, they are tried some after the
//! others, which 5.3.3 allows instead of refusing. A request without the header that goes to one
//! place leaves without it: whoever forks it first begins with the same default.

use viaduct_message::{HeaderName, Message};

/// What a request without the header gets, and the most we grant (RFC 5393 5.3.3).
const MOST: u16 = 60;

/// What the request allows: `None` where it says nothing, or nothing that can be read.
pub(crate) fn given(message: Message<'_>) -> Option<u16> {
    let text = std::str::from_utf8(message.value(HeaderName::MaxBreadth)?).ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(MOST).min(MOST))
}

/// Branches that may be under way at a time.
pub(crate) fn most(given: Option<u16>) -> usize {
    given.unwrap_or(MOST).max(1).into()
}

/// What branch `index` of `branches` that begin together says: their shares make up the whole.
/// `None`: nothing is to be said.
pub(crate) fn share(given: Option<u16>, branches: usize, index: usize) -> Option<u16> {
    if branches < 2 {
        return given;
    }
    let whole = most(given);
    let (each, rest) = (whole / branches, whole % branches);
    u16::try_from(each.saturating_add(usize::from(index < rest))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_branch_says_what_it_was_given() {
        assert_eq!((share(None, 1, 0), share(Some(7), 1, 0)), (None, Some(7)));
    }

    proptest! {
        #[test]
        fn rfc_5393_5_3_shares_make_up_the_whole_and_none_is_empty(
            given in proptest::option::of(1..=MOST),
            wanted in 2usize..64,
        ) {
            let branches = wanted.min(most(given));
            let shares = (0..branches).map(|index| share(given, branches, index));
            let shares: Vec<u16> = shares.map(|share| share.unwrap_or(1)).collect();
            prop_assert_eq!(shares.iter().map(|n| usize::from(*n)).sum::<usize>(), most(given));
            prop_assert!(shares.iter().all(|share| *share > 0));
        }
    }
}
