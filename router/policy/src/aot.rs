//! Machine code of components that were compiled before, kept by the hash of their content: a restart
//! with a large policy takes milliseconds instead of seconds.
//!
//! The only module of this crate with `unsafe` code: wasmtime trusts the machine code it is given.
#![allow(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const DIGEST_BYTES: usize = 32;
/// Machine code of one component, bytes.
const MOST_BYTES: u64 = 256 << 20;

/// A folder of machine code. Whatever is wrong with it costs a compilation, never more.
pub(crate) struct AotCache {
    dir: PathBuf,
}

impl AotCache {
    /// The folder, made where it is absent. One that others may write to is refused.
    pub(crate) fn open(dir: &Path) -> io::Result<AotCache> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let cache = AotCache { dir: dir.to_owned() };
        if cache.is_ours(dir)? {
            return Ok(cache);
        }
        let fault = format!("{} belongs to another user, or others may write to it", dir.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, fault))
    }

    /// Code of the component with this content, made by this very engine for this very machine.
    pub(crate) fn load(&self, engine: &Engine, content: &[u8]) -> Option<Component> {
        let path = self.path(content);
        if !self.is_ours(&path).ok()? || fs::metadata(&path).ok()?.len() > MOST_BYTES {
            return None;
        }
        let bytes = fs::read(&path).ok()?;
        let (digest, code) = bytes.split_at_checked(DIGEST_BYTES)?;
        if *digest != *Sha256::digest(code) {
            return None;
        }
        // SAFETY: `deserialize` trusts that the bytes are what `Component::serialize` gave, unchanged.
        // They were written by `store` below: the folder and the file belong to this process's user
        // and nobody else may write to them (so whoever could change them could as well replace
        // this program's keys and policies), and the digest shows that no accident has changed
        // them. Code of another version, configuration or processor wasmtime itself refuses.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    /// Keeps the code of a component.
    pub(crate) fn store(&self, content: &[u8], component: &Component) -> io::Result<()> {
        let code = component.serialize().map_err(io::Error::other)?;
        let path = self.path(content);
        let part = path.with_extension("part");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(&Sha256::digest(&code))?;
        file.write_all(&code)?;
        drop(file);
        fs::rename(&part, &path)
    }

    /// Removes the code of a component.
    pub(crate) fn remove(&self, content: &[u8]) {
        // What is not there need not be removed; what cannot be costs only room.
        let _ = fs::remove_file(self.path(content));
    }

    /// Name of a content: its SHA-256.
    fn name(content: &[u8]) -> String {
        Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn path(&self, content: &[u8]) -> PathBuf {
        self.dir.join(format!("{}.code", AotCache::name(content)))
    }

    /// Does it belong to this process's user, and may nobody else write to it?
    fn is_ours(&self, path: &Path) -> io::Result<bool> {
        let found = fs::symlink_metadata(path)?;
        let ours = found.uid() == nix::unistd::geteuid().as_raw() && !found.is_symlink();
        Ok(ours && found.mode() & 0o022 == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::sandbox::Sandbox;

    /// An empty component.
    const CONTENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn cache(name: &str) -> (PathBuf, AotCache, Component, std::sync::Arc<Sandbox>) {
        let dir = std::env::temp_dir().join(format!("viaduct-aot-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let cache = AotCache::open(&dir).unwrap();
        let sandbox = Sandbox::new().unwrap();
        let component = Component::new(sandbox.engine(), CONTENT).unwrap();
        (dir, cache, component, sandbox)
    }

    #[test]
    fn code_is_found_by_its_content_and_by_no_other() {
        let (dir, cache, component, sandbox) = cache("found");
        assert!(cache.load(sandbox.engine(), CONTENT).is_none());
        cache.store(CONTENT, &component).unwrap();
        assert!(cache.load(sandbox.engine(), CONTENT).is_some());
        assert!(cache.load(sandbox.engine(), b"other").is_none());
        cache.remove(CONTENT);
        assert!(cache.load(sandbox.engine(), CONTENT).is_none());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn damaged_code_and_code_others_may_have_written_is_not_used() {
        let (dir, cache, component, sandbox) = cache("damaged");
        cache.store(CONTENT, &component).unwrap();
        let path = cache.path(CONTENT);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(cache.load(sandbox.engine(), CONTENT).is_none());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(cache.load(sandbox.engine(), CONTENT).is_none());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(AotCache::open(&dir).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
