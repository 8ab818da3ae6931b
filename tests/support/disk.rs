//! A small disk of a test's own: a tmpfs in a mount namespace, that can be filled, emptied and made
//! read-only under a running router.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;
use tempfile::TempDir;

use super::process::Process;
use super::skip::find_program;

/// Why a test is skipped when [`SmallDisk::new`] gives nothing.
pub const NO_DISK: &str = "a disk of one's own needs root, unshare and nsenter (util-linux)";

/// Holds the namespace until its stdin is closed, which happens when this process ends.
const HOLD: &str =
    "mount -t tmpfs -o size=\"$1\",mode=700 small \"$2\" && echo mounted && read over";

/// The disk; goes away, with all on it, when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Process,
    folder: TempDir,
}

impl SmallDisk {
    /// A disk of so many KiB; `None` without the right to make one.
    ///
    /// # Errors
    /// When it cannot be mounted, with what was said.
    pub fn new(kib: u32) -> Result<Option<Self>> {
        let tools = ["unshare", "nsenter"].into_iter().all(|name| find_program(name).is_some());
        if !Uid::effective().is_root() || !tools {
            return Ok(None);
        }
        let may = Command::new("unshare").args(["-m", "true"]).output()?;
        if !may.status.success() {
            return Ok(None);
        }
        let folder = TempDir::with_prefix("viaduct-disk-")?;
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-c", HOLD, "sh"]);
        command.arg(format!("{kib}k")).arg(folder.path());
        let holder = Process::start("unshare", &mut command)?;
        holder.wait_for_line("the disk", Duration::from_secs(30), |line| line == "mounted")?;
        Ok(Some(Self { holder, folder }))
    }

    /// Where it is, for who lives in the namespace.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Words before a command that make it live there.
    #[must_use]
    pub fn enter(&self) -> Vec<String> {
        let pid = self.holder.pid().to_string();
        ["nsenter", "-t", &pid, "-m"].map(str::to_owned).to_vec()
    }

    /// A file on it, as this process sees it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        let inside = self.folder.path().join(name);
        root.join(inside.strip_prefix("/").unwrap_or(&inside))
    }

    /// Leaves no free byte.
    ///
    /// # Errors
    /// When writing fails for another reason than that.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.file("ballast"))?;
        loop {
            match ballast.write(&[0xaa; 4096]) {
                Ok(_) => {}
                Err(fault) if fault.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(fault) => return Err(fault).context("ballast"),
            }
        }
    }

    /// Takes that away again.
    ///
    /// # Errors
    /// When it was not full.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.file("ballast")).context("ballast")
    }

    /// Makes it read-only, or writable again.
    ///
    /// # Errors
    /// While a file on it is open for writing.
    pub fn remount(&self, options: &str) -> Result<()> {
        let enter = self.enter();
        let (program, words) = enter.split_first().context("no words")?;
        let output = Command::new(program)
            .args(words)
            .args(["mount", "-o", &format!("remount,{options}")])
            .arg(self.folder.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mount -o remount,{options}: {said}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::skip::skipped;
    use super::*;

    #[test]
    fn a_disk_is_full_empty_and_read_only_as_told_and_seen_by_nobody_else() {
        let Some(disk) = SmallDisk::new(64).unwrap() else { return skipped(NO_DISK) };
        let file = disk.file("file");
        let write = || fs::write(&file, [1; 8192]).map_err(|fault| fault.kind());
        disk.fill().unwrap();
        assert_eq!(write(), Err(ErrorKind::StorageFull));
        disk.free().unwrap();
        assert_eq!(write(), Ok(()));
        disk.remount("ro").unwrap();
        assert_eq!(write(), Err(ErrorKind::ReadOnlyFilesystem));
        disk.remount("rw").unwrap();
        assert_eq!(write(), Ok(()));
        assert!(!disk.path().join("file").exists());
    }
}
