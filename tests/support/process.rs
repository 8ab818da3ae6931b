//! A child process with its output kept, awaited by what it says, and gone when dropped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lines of output kept for each process; older ones are forgotten.
const MAX_LINES: usize = 50_000;

/// A running child. Dropping it kills it (SIGKILL, by its own id) and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    /// How many lines were forgotten from the front.
    forgotten: usize,
    /// Streams not yet at their end.
    open: usize,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts `command`; `name` is what error messages call it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name} ({command:?})"))?;
        let output = Arc::new(Output::default());
        output.lock().open = 2;
        if let Some(stream) = child.stdout.take() {
            collect(stream, Arc::clone(&output));
        }
        if let Some(stream) = child.stderr.take() {
            collect(stream, Arc::clone(&output));
        }
        Ok(Self { name, child, output })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it printed so far, both streams in order of arrival.
    #[must_use]
    pub fn log(&self) -> String {
        let state = self.output.lock();
        let mut text = String::new();
        for line in &state.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Waits for the first line, past or future, that `wanted` accepts, and returns it.
    ///
    /// # Errors
    /// When the process ends or `within` passes first; the error carries the log.
    pub fn wait_for_line(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        let mut state = self.output.lock();
        loop {
            let start = seen.max(state.forgotten) - state.forgotten;
            if let Some(line) = state.lines.iter().skip(start).find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            seen = state.forgotten + state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.open == 0 {
                let how = if state.open == 0 { "ended" } else { "was silent" };
                drop(state);
                bail!("{} {how} before {what}; its output:\n{}", self.name, self.log());
            }
            let waited = self.output.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the process has closed its output and ended.
    ///
    /// # Errors
    /// When `within` passes first; the process is left running and the error carries its log.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        let mut state = self.output.lock();
        while state.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                bail!("{} still runs after {within:?}; its output:\n{}", self.name, self.log());
            }
            let waited = self.output.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        self.child.wait().with_context(|| format!("waiting for {}", self.name))
    }

    /// Whether it has closed its output, which a program does when it ends.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.output.lock().open == 0
    }

    /// Sends a signal to this process only.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).map_err(|_| anyhow!("process id out of range"))?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When it cannot be reaped.
    pub fn kill_hard(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing {}", self.name))?;
        self.child.wait().with_context(|| format!("reaping {}", self.name))?;
        Ok(())
    }

    /// Its standard input, once.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When the process does not read any more.
    pub fn write_line(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("standard input was taken")?;
        writeln!(stdin, "{line}").with_context(|| format!("writing to {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        // read_until, not lines(): a peer may print what is not UTF-8.
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let mut state = output.lock();
            if state.lines.len() >= MAX_LINES {
                state.lines.pop_front();
                state.forgotten += 1;
            }
            state.lines.push_back(text);
            drop(state);
            output.changed.notify_all();
        }
        output.lock().open -= 1;
        output.changed.notify_all();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        Process::start("sh", Command::new("sh").arg("-c").arg(script)).unwrap()
    }

    #[test]
    fn a_line_is_found_whether_it_came_before_or_after_the_question() {
        let process = shell("echo one; read answer; echo two");
        process.wait_for_line("one", SOON, |line| line == "one").unwrap();
        process.wait_for_line("one again", SOON, |line| line == "one").unwrap();
        let mut process = process;
        process.write_line("go on").unwrap();
        process.wait_for_line("two", SOON, |line| line == "two").unwrap();
        assert!(process.wait(SOON).unwrap().success());
    }

    #[test]
    fn a_process_that_ends_too_early_is_an_error_with_its_log() {
        let process = shell("echo last words; exit 3");
        let error = process.wait_for_line("ready", SOON, |line| line == "ready").unwrap_err();
        assert!(error.to_string().contains("last words"), "{error}");
    }

    #[test]
    fn dropping_kills_by_id() {
        let process = shell("echo up; read forever");
        process.wait_for_line("up", SOON, |line| line == "up").unwrap();
        let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
        drop(process);
        assert!(kill(pid, None).is_err());
    }
}
