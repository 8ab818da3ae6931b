//! The repository's text files, read once.

#![allow(clippy::unwrap_used)] // a tree that cannot be read is a failed test

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];
/// What `make run` keeps, at the root only: the engine has a folder of that name.
const KEPT_BY_RUN: &str = "run";
/// Kinds of file that are read.
const KINDS: [&str; 11] = ["rs", "toml", "md", "wit", "sh", "c", "h", "xml", "cfg", "sql", "patch"];

/// Relative path to content, in the order of paths.
pub(crate) struct Tree {
    root: PathBuf,
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the repository this crate stands in.
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
        let mut tree = Self { root, files: BTreeMap::new() };
        let root = tree.root.clone();
        tree.walk(&root);
        tree
    }

    fn walk(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                let kept_by_run = folder == self.root && name == KEPT_BY_RUN;
                if !kept_by_run && !SKIPPED.contains(&name.as_str()) {
                    self.walk(&path);
                }
                continue;
            }
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            let wanted = KINDS.contains(&extension) || ["Makefile", "run"].contains(&name.as_str());
            if kind.is_file()
                && wanted
                && let Ok(text) = fs::read_to_string(&path)
            {
                let relative = path.strip_prefix(&self.root).unwrap();
                self.files.insert(relative.to_string_lossy().into_owned(), text);
            }
        }
    }

    /// Every file.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Rust source.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// Cargo manifests.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(|(path, _)| path.ends_with("/Cargo.toml"))
    }

    /// One file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }

    /// Whether there is such a file or folder.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}
