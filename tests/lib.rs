//! What the whole-system tests share: starting routers and real peers, speaking SIP to them, and
//! collecting what they said.
//!
//! This crate may know every other crate's *outside* (binary, configuration, wire) and none of
//! their insides: a test here sees what an operator sees. A peer that is not installed makes a test
//! print `skipped: reason` and pass, never anything else.
//!
//! Start reading at [`support::process`], then [`support::router`]. The tests themselves are in
//! `e2e/`, the benchmark in `bench/`, the checks of the source tree in `tidy/`.

pub mod support;
