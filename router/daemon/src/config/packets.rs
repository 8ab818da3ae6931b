//! How packets are to come in: `xdp` of each listener, and the section `[xdp]`.

use std::net::SocketAddr;

use super::reader::Section;

/// What a listener wants of AF_XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpWish {
    /// Nothing.
    Off,
    /// To use it where it can be had.
    Auto,
    /// Not to start without it.
    Required,
}

impl XdpWish {
    /// The words of `xdp`.
    pub(super) const WORDS: [(&'static str, XdpWish); 3] =
        [("auto", XdpWish::Auto), ("off", XdpWish::Off), ("required", XdpWish::Required)];
}

/// `[xdp]`, and the listeners' `xdp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketsConfig {
    /// UDP listeners with what each wants, those with `off` left out.
    pub wishes: Vec<(SocketAddr, XdpWish)>,
    /// Frames of each queue; a power of two.
    pub frames: u32,
    /// Packets a source may send a second; 0: any number.
    pub source_rate: u64,
    /// Packets a source may send at once.
    pub source_burst: u64,
    /// Malformed messages and wrong credentials of a source within a minute that ban it; 0: never.
    pub ban_after: u32,
    /// How long a ban lasts, seconds.
    pub ban_s: u64,
}

/// Longest ban, seconds: a year.
pub(crate) const MOST_BAN_S: u64 = super::keys::YEAR_S;

pub(super) fn read(top: &mut Section<'_, '_>, wishes: Vec<(SocketAddr, XdpWish)>) -> PacketsConfig {
    let mut section = top.section("xdp");
    let frames = section.number("frames", 512..=65_536, 2048);
    if !frames.is_power_of_two() {
        let (at, name) = (section.place("frames"), section.name("frames"));
        let allowed = "a power of two, from 512 to 65536";
        section.sheet().fault(at, &name, format!("is {frames}"), allowed);
    }
    let config = PacketsConfig {
        wishes,
        frames: u32::try_from(frames).unwrap_or(2048),
        source_rate: section.number("source_rate", 0..=1_000_000, 0),
        source_burst: section.number("source_burst", 1..=1_000_000, 1000),
        ban_after: section.number("ban_after", 0..=1_000_000, 0).try_into().unwrap_or(0),
        ban_s: section.number("ban_s", 1..=MOST_BAN_S, 600),
    };
    section.close();
    config
}
