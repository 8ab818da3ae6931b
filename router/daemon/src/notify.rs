//! What systemd is told: ready, reloading, stopping, alive (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager; silent where there is none.
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    pub fn from_env() -> Notifier {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let opened = open(name.as_bytes());
            opened.inspect_err(|fault| tracing::warn!(%fault, "NOTIFY_SOCKET is no use")).ok()
        });
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let own = std::process::id();
        // The variable names the process that is watched; a child inherits it without being meant.
        let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(own));
        let watchdog = number("WATCHDOG_USEC").filter(|us| meant && *us > 0);
        Notifier { socket, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// How often to say that all is well: half the time systemd waits. `None`: nobody waits.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|limit| limit / 2)
    }

    /// Everything serves; `status` is one line for people.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// A reload begins (RELOADING wants the monotonic time, in microseconds) and is over.
    pub fn reloading(&self) {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let us = now.map_or(0, |time| Duration::from(time).as_micros());
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={us}\n"));
    }

    /// A drain begins.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// Every worker turns.
    pub fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    fn send(&self, text: &str) {
        if let Some((socket, addr)) = &self.socket
            && let Err(fault) = socket.send_to_addr(text.as_bytes(), addr)
        {
            tracing::warn!(%fault, "service manager not told");
        }
    }
}

/// A path, or a name in the abstract namespace where it begins with `@`.
fn open(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let addr = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    Ok((UnixDatagram::unbound()?, addr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_service_manager_hears_ready_alive_and_stopping() {
        let scratch = Scratch::new();
        let path = scratch.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier {
            socket: Some(open(path.as_os_str().as_bytes()).unwrap()),
            watchdog: Some(Duration::from_secs(10)),
        };
        notifier.ready("serving");
        notifier.alive();
        notifier.stopping();
        let mut buf = [0; 128];
        for expected in ["READY=1\nSTATUS=serving\n", "WATCHDOG=1\n", "STOPPING=1\n"] {
            let len = manager.recv(&mut buf).unwrap();
            assert_eq!(std::str::from_utf8(&buf[..len]).unwrap(), expected);
        }
        assert_eq!(notifier.watchdog_interval(), Some(Duration::from_secs(5)));
    }
}
