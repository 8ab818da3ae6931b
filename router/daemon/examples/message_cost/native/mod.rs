//! What the shipped policies decide, in Rust beside the engine: what the sandbox costs is the
//! difference. A file each, which follows its policy's source function by function, with the settings
//! of its manifest; tests.rs sees to it that both decide alike.

mod answers;
mod default_script;
mod hunt_group;
mod mid_registrar;
mod outbound_proxy;
mod registrar;
mod request;

use viaduct_engine::{Phase, Policy, PolicyFailure, Run, Verdict};

/// The phases of a policy; those it does not handle are never asked.
trait Decide {
    fn phases(&self) -> &'static [Phase];

    fn on_request(&self, run: &mut Run) -> Verdict;

    fn on_reply(&self, _: &mut Run) -> Verdict {
        Verdict::Continue
    }

    fn on_failure(&self, _: &mut Run) -> Verdict {
        Verdict::Continue
    }
}

/// The counterpart of a shipped policy.
pub(crate) struct Native(Box<dyn Decide>);

impl Native {
    /// `None`: the policy has no counterpart.
    pub(crate) fn of(policy: &str) -> Option<Native> {
        Some(Native(match policy {
            "registrar" => Box::new(registrar::Registrar::new()),
            "default-script" => Box::new(default_script::DefaultScript::new()),
            "hunt-group" => Box::new(hunt_group::HuntGroup::new()),
            "outbound-proxy" => Box::new(outbound_proxy::OutboundProxy::new()),
            "mid-registrar" => Box::new(mid_registrar::MidRegistrar::new()),
            _ => return None,
        }))
    }
}

impl Policy for Native {
    type Version = ();

    fn current(&mut self) {}

    fn wants(&self, (): &(), phase: Phase) -> bool {
        self.0.phases().contains(&phase)
    }

    fn decide(
        &mut self,
        (): &(),
        phase: Phase,
        mut run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        let verdict = match phase {
            Phase::Request => self.0.on_request(&mut run),
            Phase::Reply => self.0.on_reply(&mut run),
            Phase::Failure => self.0.on_failure(&mut run),
            Phase::Branch => Verdict::Continue,
        };
        (run, Ok(verdict))
    }
}
