//! `[http]`: requests of policies.

use std::path::{Path, PathBuf};

use viaduct_engine::http::MOST_BODY_BYTES;

use super::reader::Section;
use super::size;

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Longest time of one request, from its connection to the end of its response, milliseconds.
    pub timeout_ms: u64,
    /// Longest time a SIP request waits for all its responses, milliseconds.
    pub wait_ms: u64,
    /// SIP requests that wait at a time, all workers together.
    pub waiting: usize,
    /// Requests under way, all workers together.
    pub in_flight: usize,
    /// Longest body of a response, bytes.
    pub response_bytes: usize,
    /// PEM file with the authorities that are believed; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
}

pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path) -> HttpConfig {
    let mut section = top.section("http");
    let s = &mut section;
    let most = MOST_BODY_BYTES as u64;
    let config = HttpConfig {
        timeout_ms: s.number("timeout_ms", 10..=30_000, 2000),
        wait_ms: s.number("wait_ms", 100..=30_000, 5000),
        waiting: size(s.number("waiting", 1..=10_000_000, 10_000)),
        in_flight: size(s.number("in_flight", 1..=100_000, 256)),
        response_bytes: size(s.number("response_bytes", 0..=most, most)),
        ca_file: s.text("ca_file", "", "a path").map(|text| folder.join(text.value)),
    };
    section.close();
    config
}
