//! One report of two.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::session::{Carrier, Counter, LegReport, Report};

/// What was counted is added, and what the module knows of the peer is newer.
pub(super) fn report(userspace: Report, kernel: Option<&Report>) -> Report {
    let Some(kernel) = kernel else { return userspace };
    let [a, b] = userspace.legs;
    let [kernel_a, kernel_b] = &kernel.legs;
    let legs = [leg(a, kernel_a), leg(b, kernel_b)];
    Report { id: userspace.id, carrier: Carrier::Kernel, legs }
}

/// Those of user space with those of the module.
pub(super) fn reports(userspace: Vec<Report>, kernel: Vec<Report>) -> Vec<Report> {
    let kernel: HashMap<SocketAddr, Report> =
        kernel.into_iter().map(|report| (report.legs[0].local, report)).collect();
    let merge = |one: Report| {
        let of_kernel = kernel.get(&one.legs[0].local);
        report(one, of_kernel)
    };
    userspace.into_iter().map(merge).collect()
}

fn leg(userspace: LegReport, kernel: &LegReport) -> LegReport {
    let mut counters = userspace.counters;
    counters.add_all(&kernel.counters);
    LegReport {
        learned: kernel.learned.or(userspace.learned),
        locked: kernel.locked,
        seen_ms: [kernel.seen_ms, userspace.seen_ms].into_iter().flatten().min(),
        ssrc: kernel.ssrc.or(userspace.ssrc),
        counters,
        // The module does not look: what was heard here is not all.
        quality: userspace.quality.filter(|_| kernel.counters.get(Counter::Rtp) == 0),
        ..userspace
    }
}
