//! Variables of the transaction: set in one phase, read in a later one. Needs the grant `vars`.

use crate::bindings::viaduct::policy::vars as host;
use crate::message::EditError;

/// A variable; `None` where it was never set.
pub fn get(name: &str) -> Option<String> {
    host::get(name)
}

/// A variable as a number; `None` where it was never set or is none.
pub fn number(name: &str) -> Option<u64> {
    host::get(name)?.parse().ok()
}

/// Sets a variable. Refused past 32 variables or 16 KiB in all, and where the name begins with
/// `viaduct.`.
pub fn set(name: &str, value: &str) -> Result<(), EditError> {
    host::set(name, Some(value))
}

/// Forgets a variable.
pub fn unset(name: &str) {
    // Taking away cannot exceed a limit; what was never set is no fault.
    let _ = host::set(name, None);
}
