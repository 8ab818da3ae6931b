//! Tables that all workers of the router share: keys and values that expire, and rate counters.
//! Needs the grant `table = { NAME = "read" }`, or `"write"` for all but [`get`].
//!
//! ```no_run
//! # use viaduct_guest::prelude::*;
//! fn not_too_often(request: &Request) -> Result<(), Verdict> {
//!     match table::hit("callers", &request.source_ip(), 10) {
//!         Ok(hits) if hits > 50 => Err(reply(503, "Slow Down")),
//!         _ => Ok(()),
//!     }
//! }
//! ```
//!
//! Changes are staged: they happen when the run has ended well, and the run sees its own. Between
//! two runs at the same time the later one to end wins, but additions and hits add up. A restart
//! empties all tables.

use crate::bindings::viaduct::policy::table as host;

pub use host::{Guarded, TableError};

/// What stands under a key.
pub fn get(table: &str, key: &str) -> Option<String> {
    host::get(table, key)
}

/// What stands under a key, as a number.
pub fn number(table: &str, key: &str) -> Option<i64> {
    host::get(table, key)?.parse().ok()
}

/// Puts a text under a key (at most 256 bytes), for so many seconds.
pub fn set(table: &str, key: &str, value: &str, expires_s: u32) -> Result<(), TableError> {
    host::set(table, key, Some(value), expires_s)
}

/// Takes an entry away.
pub fn remove(table: &str, key: &str) {
    // Taking away cannot exceed a limit that matters.
    let _ = host::set(table, key, None, 1);
}

/// Adds to a number; what it will be. It begins with 0 and lives for `expires_s` seconds from then.
pub fn add(table: &str, key: &str, by: i64, expires_s: u32) -> Result<i64, TableError> {
    host::add(table, key, by, expires_s)
}

/// Counts a hit; how many there were in the last `window_s` seconds, this one included.
pub fn hit(table: &str, key: &str, window_s: u32) -> Result<u32, TableError> {
    host::hit(table, key, window_s)
}

/// Guards against floods: [`hit`]s `hits` under the address the message came from, and puts the
/// address into `banned` for `ban_s` seconds where there were more than `most` in the last
/// `window_s` seconds. One call to the router instead of four. Needs `"write"` for both tables.
///
/// ```no_run
/// # use viaduct_guest::prelude::*;
/// # use viaduct_guest::table::Guarded;
/// fn floods() -> bool {
///     match table::guard("hits", "banned", 32, 1, 300) {
///         Ok(Guarded::Over(_) | Guarded::Banned) => true,
///         Ok(Guarded::Within) | Err(_) => false,
///     }
/// }
/// ```
pub fn guard(
    hits: &str,
    banned: &str,
    most: u32,
    window_s: u32,
    ban_s: u32,
) -> Result<Guarded, TableError> {
    host::guard(hits, banned, most, window_s, ban_s)
}
