//! What the module has been asked for besides sessions, and whether it does it.

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use crate::executor::ExecutorError;
use crate::kernel::{KernelRelay, RuleReport, Steering};

/// A number of a rule: this many bits are its place, those above it are the owner's, so that two routers
/// of one namespace have rules of different numbers.
const PLACE_BITS: u32 = 8;

/// The wishes, and what became of them.
#[derive(Default)]
pub(super) struct Steered {
    pub(super) wanted: Steering,
    /// What was said last of wishes that were not granted.
    said: String,
}

impl Steered {
    /// After attaching as this owner: rules of an earlier process go, those of now come.
    pub(super) fn begin(&mut self, kernel: &mut KernelRelay, owner: u64) {
        let mut refused = Vec::new();
        for rule in kernel.rules().unwrap_or_default() {
            kernel.remove_rule(rule.id).ok();
        }
        for (place, rule) in (0u32..).zip(&self.wanted.rules) {
            if let Err(error) = kernel.add_rule(number(owner, place), rule) {
                refused.push(format!("{:?}: {error}", rule.traffic));
            }
        }
        self.devices(kernel, refused);
    }

    /// Now and then: devices that were not there may be now, or have come back. Returns what the rules
    /// have done.
    pub(super) fn look(&mut self, kernel: &mut KernelRelay) -> Vec<RuleReport> {
        if self.wanted == Steering::default() {
            return Vec::new();
        }
        self.devices(kernel, Vec::new());
        let mut rules = kernel.rules().unwrap_or_default();
        for rule in &mut rules {
            rule.id &= (1 << PLACE_BITS) - 1;
        }
        rules
    }

    fn devices(&mut self, kernel: &mut KernelRelay, mut refused: Vec<String>) {
        for name in &self.wanted.ingress {
            let added = if_nametoindex(&**name)
                .map_err(|errno| ExecutorError::Io(errno.into()))
                .and_then(|index| kernel.add_device(index));
            match added {
                Err(error) if !is_there_already(&error) => refused.push(format!("{name}: {error}")),
                _ => {}
            }
        }
        let refused = refused.join("; ");
        if refused != self.said {
            if !refused.is_empty() {
                tracing::warn!(target: "viaduct::media", refused, "not all is steered as configured");
            }
            self.said = refused;
        }
    }
}

/// The number of the rule at this place.
fn number(owner: u64, place: u32) -> u32 {
    // Which bits are no matter: owners are random.
    let owner = u32::try_from(owner & 0xff_ffff).unwrap_or(0);
    (owner << PLACE_BITS) | place
}

/// It was added before, and has been there since.
fn is_there_already(error: &ExecutorError) -> bool {
    matches!(error, ExecutorError::Refused { errno, .. }
        if errno.raw_os_error() == Some(Errno::EEXIST as i32))
}
