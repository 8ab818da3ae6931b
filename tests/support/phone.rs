//! baresip, a real phone program, set up to register and to answer by itself.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::net::Transport;
use super::process::Process;
use super::skip::find_program;

/// Where Debian keeps baresip's modules.
const MODULES: &str = "/usr/lib/baresip/modules";
/// How long the phone may take for a step.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running phone; ends when dropped.
#[derive(Debug)]
pub struct Phone {
    process: Process,
    _folder: TempDir,
}

/// baresip's place, or `None` where it or its modules are not installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    find_program("baresip").filter(|_| Path::new(MODULES).is_dir())
}

impl Phone {
    /// Starts a phone at `local` for `sip:user@domain` with `proxy` as its outbound proxy.
    ///
    /// # Errors
    /// When baresip cannot be started.
    pub fn start(
        user: &str,
        domain: &str,
        transport: Transport,
        local: SocketAddr,
        proxy: SocketAddr,
    ) -> Result<Self> {
        Self::start_with_password(user, domain, "none", transport, local, proxy)
    }

    /// [`Phone::start`] with a password.
    ///
    /// # Errors
    /// When baresip cannot be started.
    pub fn start_with_password(
        user: &str,
        domain: &str,
        password: &str,
        transport: Transport,
        local: SocketAddr,
        proxy: SocketAddr,
    ) -> Result<Self> {
        let program = installed().context("baresip is not installed")?;
        let folder = TempDir::with_prefix("viaduct-phone-")?;
        let account = format!(
            "<sip:{user}@{domain};transport={t}>;auth_pass={password};answermode=auto;regint=60;\
             outbound=\"sip:{proxy};transport={t}\"\n",
            t = transport.in_uri()
        );
        fs::write(folder.path().join("accounts"), account)?;
        fs::write(folder.path().join("contacts"), "")?;
        // The sound card is a sine generator, which gives 48 kHz stereo and nothing else; what is
        // heard is thrown away. menu is the module that answers calls.
        let config = format!(
            "poll_method epoll\nsip_listen {local}\naudio_source ausine,440\nausrc_srate 48000\n\
             ausrc_channels 2\nrtp_ports 20000-29999\nmodule_path {MODULES}\nmodule g711.so\n\
             module ausine.so\nmodule_tmp account.so\nmodule_app contact.so\nmodule_app menu.so\n"
        );
        fs::write(folder.path().join("config"), config)?;
        let mut command = Command::new(program);
        command.arg("-f").arg(folder.path()).env("HOME", folder.path());
        let process = Process::start("baresip", &mut command)?;
        Ok(Self { process, _folder: folder })
    }

    /// Waits until it says that its registration was accepted.
    ///
    /// # Errors
    /// With its log, when it is not.
    pub fn wait_until_registered(&self) -> Result<()> {
        let accepted = |line: &str| line.contains("200 OK") && line.contains("binding");
        self.process.wait_for_line("registration", PATIENCE, accepted).map(drop)
    }

    /// Waits until a call is established.
    ///
    /// # Errors
    /// With its log, when none is.
    pub fn wait_until_in_call(&self) -> Result<()> {
        let established = |line: &str| line.contains("Call established");
        self.process.wait_for_line("a call", PATIENCE, established).map(drop)
    }

    /// Waits until the call was ended by the other side.
    ///
    /// # Errors
    /// With its log, when it was not.
    pub fn wait_until_hung_up(&self) -> Result<()> {
        let closed = |line: &str| line.contains("session closed");
        self.process.wait_for_line("the end of the call", PATIENCE, closed).map(drop)
    }
}
