//! A network namespace with a cable to it that can be pulled out.

use std::net::Ipv4Addr;
use std::process::{self, Command};

use anyhow::{Result, ensure};
use nix::unistd::Uid;

/// Why a test is skipped when [`Namespace::new`] gives nothing.
pub const NO_NAMESPACE: &str = "network namespaces need root and ip (iproute2)";

/// A namespace; goes away, with the cable, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    outside: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

impl Namespace {
    /// A namespace with one interface, `eth0`, that this machine reaches; `None` without the right
    /// to make one.
    ///
    /// # Errors
    /// When `ip` fails half-way, with what it said.
    pub fn new() -> Result<Option<Self>> {
        Self::numbered(0)
    }

    /// As [`Namespace::new`]; one process may have those numbered 0 and 1. What is not on its cable
    /// it sends to this machine.
    ///
    /// # Errors
    /// As [`Namespace::new`].
    pub fn numbered(number: u8) -> Result<Option<Self>> {
        let id = process::id();
        let name = format!("viaduct-{id}-{number}");
        let outside = format!("vd{id}-{number}");
        if !Uid::effective().is_root() || ip(&["netns", "add", &name]).is_err() {
            return Ok(None);
        }
        // Of the addresses for tests of devices (RFC 2544), eight for each process.
        let [_, _, high, low] = (id << 3 | u32::from(number & 1) << 2).to_be_bytes();
        let at = |last: u8| Ipv4Addr::new(198, 18 + (high >> 7), high, low | last);
        let namespace = Self { name, outside, here: at(1), there: at(2) };
        let (name, outside) = (namespace.name.as_str(), &namespace.outside);
        let here = format!("{}/30", namespace.here);
        let there = format!("{}/30", namespace.there);
        ip(&["link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["addr", "add", &here, "dev", outside])?;
        ip(&["link", "set", outside, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "addr", "add", &there, "dev", "eth0"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])?;
        let gateway = namespace.here.to_string();
        ip(&["-n", name, "route", "add", "default", "via", &gateway])?;
        Ok(Some(namespace))
    }

    /// This machine's address on its cable.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.here
    }

    /// Its name for `ip netns exec`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The end of its cable at this machine.
    #[must_use]
    pub fn cable(&self) -> &str {
        &self.outside
    }

    /// Runs `ethtool -K eth0 WORDS` inside.
    ///
    /// # Errors
    /// When `ethtool` fails, with what it said.
    pub fn offload(&self, words: &[&str]) -> Result<()> {
        let command = ["netns", "exec", &self.name, "ethtool", "-K", "eth0"];
        ip(&[&command, words].concat())
    }

    /// The address inside.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.there
    }

    /// Pulls the cable out at the far end: nothing passes and nobody is told.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut(&self) -> Result<()> {
        ip(&["-n", &self.name, "link", "set", "eth0", "down"])
    }

    /// Puts it in again.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn heal(&self) -> Result<()> {
        ip(&["-n", &self.name, "link", "set", "eth0", "up"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.outside]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {said}", words.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::super::skip::skipped;
    use super::*;

    #[test]
    fn a_cable_can_be_pulled_out_and_put_in_again() {
        let Some(namespace) = Namespace::new().unwrap() else { return skipped(NO_NAMESPACE) };
        let local = TcpListener::bind((namespace.here, 0)).unwrap().local_addr().unwrap();
        assert_eq!(local.ip(), namespace.here);
        let reach = || {
            let at = (namespace.address(), 9).into();
            TcpStream::connect_timeout(&at, Duration::from_millis(300)).unwrap_err().kind()
        };
        // Nobody listens there, which only somebody who is there can say.
        assert_eq!(reach(), std::io::ErrorKind::ConnectionRefused);
        namespace.cut().unwrap();
        assert_ne!(reach(), std::io::ErrorKind::ConnectionRefused);
        namespace.heal().unwrap();
        while reach() != std::io::ErrorKind::ConnectionRefused {}
    }
}
