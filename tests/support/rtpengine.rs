//! Debian's rtpengine as a media node: in user space alone, with its own ports.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::Process;
use super::sip_text::unique;
use super::skip::find_program;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_millis(500);

/// A running node; ends when dropped.
#[derive(Debug)]
pub struct Rtpengine {
    process: Process,
    control: SocketAddr,
    address: IpAddr,
    ports: RangeInclusive<u16>,
}

/// Its place, or `None` where it is not installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    find_program("rtpengine")
}

impl Rtpengine {
    /// A node that takes commands at `control`, and media at `ports` of `address`.
    ///
    /// # Errors
    /// When it does not answer; the error carries its log.
    pub fn start(
        control: SocketAddr,
        address: IpAddr,
        ports: RangeInclusive<u16>,
    ) -> Result<Rtpengine> {
        let process = launch(control, address, &ports)?;
        let node = Rtpengine { process, control, address, ports };
        node.wait_until_up()?;
        Ok(node)
    }

    /// Where it takes commands.
    #[must_use]
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Everything it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Whether it has a call with this Call-ID.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn knows(&self, call_id: &str) -> Result<bool> {
        let length = call_id.len();
        let answer = self.ask(&format!("d7:call-id{length}:{call_id}7:command5:querye"))?;
        match (answer.contains("6:result2:ok"), answer.contains("Unknown call-id")) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => bail!("rtpengine says {answer:?}"),
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it cannot be reaped.
    pub fn kill_hard(&mut self) -> Result<()> {
        self.process.kill_hard()
    }

    /// Starts it again after [`Rtpengine::kill_hard`]; it knows nothing then.
    ///
    /// # Errors
    /// As [`Rtpengine::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = launch(self.control, self.address, &self.ports)?;
        self.wait_until_up()
    }

    fn wait_until_up(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask("d7:command4:pinge") {
                Ok(answer) if answer.contains("pong") => return Ok(()),
                Ok(answer) => bail!("rtpengine says {answer:?}"),
                Err(error) if Instant::now() >= deadline || self.process.has_ended() => {
                    return Err(error.context(format!("rtpengine: {}", self.log())));
                }
                // Nobody is told when it listens.
                Err(_) => {}
            }
        }
    }

    /// Its answer to one command, without the cookie.
    fn ask(&self, command: &str) -> Result<String> {
        let socket = UdpSocket::bind((self.control.ip(), 0))?;
        socket.set_read_timeout(Some(ANSWER))?;
        // To a cookie it has seen it gives the answer it gave then.
        let cookie = unique("test");
        socket.send_to(format!("{cookie} {command}").as_bytes(), self.control)?;
        let mut buffer = vec![0; 65_536];
        let (len, _) = socket.recv_from(&mut buffer).context("no answer of rtpengine")?;
        let answer = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).into_owned();
        let answer = answer.strip_prefix(&cookie).and_then(|rest| rest.strip_prefix(' '));
        answer.map(str::to_owned).context("the cookie of another command")
    }
}

fn launch(control: SocketAddr, address: IpAddr, ports: &RangeInclusive<u16>) -> Result<Process> {
    let program = installed().context("rtpengine is not installed")?;
    let mut command = Command::new(program);
    // No table in a kernel, and nothing of this machine's own configuration.
    command.args(["--config-file=none", "--table=-1", "--foreground", "--log-stderr"]);
    command.args(["--num-threads=2", "--log-level=7"]);
    command.arg(format!("--listen-ng={control}"));
    command.arg(format!("--interface={address}"));
    command.arg(format!("--port-min={}", ports.start()));
    command.arg(format!("--port-max={}", ports.end()));
    Process::start("rtpengine", &mut command)
}
