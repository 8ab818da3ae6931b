//! Log lines: `log::info!("{} of {aor} refused", contact)`. Needs the grant `log`.
//!
//! Lines of a run are written when it has ended well, at most 32 of 1 KiB.

pub use crate::bindings::viaduct::policy::log::Level;
pub use crate::{__log_at as at, __log_debug as debug, __log_error as error};
pub use crate::{__log_info as info, __log_trace as trace, __log_warn as warn};

/// Writes one line; the macros of this module are shorter.
pub fn write(level: Level, text: &str) {
    crate::bindings::viaduct::policy::log::write(level, text);
}

/// Logs at a level given as the first argument.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_at {
    ($level:expr, $($text:tt)+) => { $crate::log::write($level, &::std::format!($($text)+)) };
}

/// Something is wrong in the policy or its settings.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($text:tt)+) => { $crate::__log_at!($crate::log::Level::Error, $($text)+) };
}

/// Something an operator should look at.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($text:tt)+) => { $crate::__log_at!($crate::log::Level::Warn, $($text)+) };
}

/// Worth a line in daily operation.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($text:tt)+) => { $crate::__log_at!($crate::log::Level::Info, $($text)+) };
}

/// For finding faults.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($text:tt)+) => { $crate::__log_at!($crate::log::Level::Debug, $($text)+) };
}

/// For following every message.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace {
    ($($text:tt)+) => { $crate::__log_at!($crate::log::Level::Trace, $($text)+) };
}
