//! Deployed components on disk, so that a restart comes up with the same versions.
//!
//! One file a version, `<serial>-<name>-<version>-<hash>.wasm`, and the file `active`: which are
//! live where (`catalog/plan.rs`). Each is written to a temporary
//! file, flushed, and renamed, so a crash leaves the old state or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::version::hash;

const ACTIVE: &str = "active";
const PART: &str = ".part";

pub(crate) struct Disk {
    dir: PathBuf,
}

/// A version found on disk.
pub(crate) struct Stored {
    pub(crate) serial: u64,
    pub(crate) path: PathBuf,
}

impl Disk {
    pub(crate) fn open(dir: &Path) -> io::Result<Disk> {
        fs::create_dir_all(dir)?;
        Ok(Disk { dir: dir.to_owned() })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Versions in order of their serials, and what was active. Removes what a crash has left half
    /// written; leaves files it does not know alone.
    pub(crate) fn scan(&self) -> io::Result<(Vec<Stored>, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(PART) {
                fs::remove_file(&path)?;
            } else if let Some(serial) = serial_of(name) {
                found.push(Stored { serial, path });
            }
        }
        found.sort_by_key(|stored| stored.serial);
        let active = match fs::read_to_string(self.dir.join(ACTIVE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Ok((found, active))
    }

    /// Writes a component; where to find it.
    pub(crate) fn write(&self, serial: u64, label: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir.join(format!("{serial}-{label}-{}.wasm", hash(bytes)));
        self.replace(&path, bytes)?;
        Ok(path)
    }

    pub(crate) fn write_active(&self, text: &str) -> io::Result<()> {
        self.replace(&self.dir.join(ACTIVE), text.as_bytes())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut part = path.as_os_str().to_owned();
        part.push(PART);
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&part, path)?;
        // The rename itself lives in the directory.
        File::open(&self.dir)?.sync_all()
    }
}

/// Reads a component and compares it with the hash in its name.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let wanted = stem.rsplit('-').next().unwrap_or_default();
    if *hash(&bytes) == *wanted {
        Ok(bytes)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "content does not match its hash"))
    }
}

fn serial_of(name: &str) -> Option<u64> {
    let (serial, _) = name.strip_suffix(".wasm")?.split_once('-')?;
    serial.parse().ok()
}
