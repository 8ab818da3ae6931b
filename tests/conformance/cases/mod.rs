//! The cases, a file for each group of sections.

mod forwarding;
mod outbound;
mod path;
mod registrar;
mod responses;
mod timers;
mod transport;
mod uas;
mod validation;

use crate::case::Case;

/// All cases; those that wait for timers come first, so that the others run meanwhile.
pub(crate) fn all() -> Vec<&'static Case> {
    let groups = [
        timers::CASES,
        uas::CASES,
        registrar::CASES,
        validation::CASES,
        forwarding::CASES,
        responses::CASES,
        transport::CASES,
        path::CASES,
        outbound::CASES,
    ];
    groups.into_iter().flatten().collect()
}
