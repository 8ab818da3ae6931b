//! Counters, exported to Prometheus as `viaduct_policy_NAME`. Needs the grant `metrics`.

use crate::bindings::viaduct::policy::metrics as host;

/// Counts one.
pub fn count(name: &str) {
    host::add(name, 1);
}

/// Adds to a counter.
pub fn add(name: &str, by: u64) {
    host::add(name, by);
}
