//! Why a run failed: from wasmtime's errors to the engine's kinds.

use viaduct_engine::FailureKind;
use wasmtime::{Error, Trap};

use crate::guest::Refused;
use crate::verdict::Garbage;

/// A failed run: its kind, and words for whoever debugs the policy.
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) detail: String,
}

impl Failure {
    /// No instance could be had.
    pub(crate) fn unavailable(error: &Error) -> Failure {
        Failure { kind: FailureKind::Unavailable, detail: in_words(error) }
    }

    /// The call of the guest ended in an error.
    pub(crate) fn of_call(error: &Error, memory_refused: bool) -> Failure {
        Failure { kind: kind(error, memory_refused), detail: in_words(error) }
    }

    /// The guest returned something that is no verdict.
    pub(crate) fn garbage(garbage: &Garbage) -> Failure {
        Failure { kind: FailureKind::Garbage, detail: garbage.to_string() }
    }
}

fn kind(error: &Error, memory_refused: bool) -> FailureKind {
    if memory_refused {
        return FailureKind::Memory;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => FailureKind::Fuel,
        Some(Trap::Interrupt) => FailureKind::Time,
        Some(_) => FailureKind::Trap,
        None if error.downcast_ref::<Refused>().is_some() => FailureKind::Trap,
        // What is left: values that do not fit the contract, an enum that has no such case, a text
        // that is no UTF-8 or lies outside memory.
        None => FailureKind::Garbage,
    }
}

/// Causes, outermost first, without line breaks.
pub(crate) fn in_words(error: &Error) -> String {
    const LONGEST: usize = 1024;
    let text = format!("{error:#}");
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
