//! `viaduct policy build`: a policy's folder to one file that can be deployed.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use viaduct_policy::{Manifest, package};

const TARGET: &str = "wasm32-unknown-unknown";
/// The rustc for policies, where cargo's own has no std for the target.
const RUSTC: &str = "VIADUCT_WASM_RUSTC";
/// Longest manifest, bytes.
const MOST_MANIFEST_BYTES: u64 = 65_536;

/// A component that has been written.
pub(super) struct Made {
    manifest: Manifest,
    file: PathBuf,
    bytes: usize,
}

impl fmt::Display for Made {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Made { manifest, file, bytes } = self;
        write!(
            out,
            "{} {}: {} ({} KiB)",
            manifest.name,
            manifest.version,
            file.display(),
            bytes.div_ceil(1024)
        )
    }
}

/// Builds the component that ships into `out`, or into the policy's folder.
pub(super) fn component(dir: &Path, out: Option<&Path>) -> anyhow::Result<Made> {
    let text = manifest_text(dir)?;
    let manifest = parse_manifest(dir, &text)?;
    let component = shipped(dir, &text)?;
    let file = match out {
        Some(file) => file.to_owned(),
        None => dir.join(format!("{}.wasm", manifest.name)),
    };
    write_whole(&file, &component)?;
    Ok(Made { manifest, file, bytes: component.len() })
}

/// Puts the manifest of a folder into a component (or core module) another toolchain has made.
pub(super) fn pack(code: &Path, dir: &Path, out: Option<&Path>) -> anyhow::Result<Made> {
    let text = manifest_text(dir)?;
    let manifest = parse_manifest(dir, &text)?;
    let place = || code.display().to_string();
    let bytes = std::fs::read(code).with_context(place)?;
    let component = package::build(&bytes, &text).with_context(place)?;
    let file = match out {
        Some(file) => file.to_owned(),
        None => dir.join(format!("{}.wasm", manifest.name)),
    };
    write_whole(&file, &component)?;
    Ok(Made { manifest, file, bytes: component.len() })
}

/// The bytes of the component that ships.
pub(super) fn shipped(dir: &Path, manifest: &str) -> anyhow::Result<Vec<u8>> {
    let module = module(dir, &[])?;
    package::build(&module, manifest).with_context(|| format!("{}", dir.display()))
}

/// The bytes of the component with the tests.
pub(super) fn tests(dir: &Path) -> anyhow::Result<Vec<u8>> {
    let module = module(dir, &["--features", "tests"])?;
    package::build_tests(&module).with_context(|| format!("{}", dir.display()))
}

/// The text of `policy.toml`.
pub(super) fn manifest_text(dir: &Path) -> anyhow::Result<String> {
    let file = dir.join("policy.toml");
    let name = file.display().to_string();
    let opened = std::fs::File::open(&file).with_context(|| name.clone())?;
    let mut text = String::new();
    opened.take(MOST_MANIFEST_BYTES).read_to_string(&mut text).context(name)?;
    Ok(text)
}

/// Checks a manifest; the error names file and line.
pub(super) fn parse_manifest(dir: &Path, text: &str) -> anyhow::Result<Manifest> {
    Manifest::parse(text).with_context(|| dir.join("policy.toml").display().to_string())
}

/// Runs cargo and reads the core module it has made.
fn module(dir: &Path, more: &[&str]) -> anyhow::Result<Vec<u8>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(dir)
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(rustc) = std::env::var_os(RUSTC).filter(|rustc| !rustc.is_empty()) {
        command.env("RUSTC", rustc);
    }
    let output = command.spawn().context("cargo")?.wait_with_output().context("cargo")?;
    if !output.status.success() {
        bail!(
            "{}: cargo build failed; where it cannot find `core` or `std`, run `rustup target add \
             {TARGET}`, or set {RUSTC} to a rustc that has the target (make setup finds one)",
            dir.display()
        );
    }
    let file = artefact(&output.stdout, dir)?;
    std::fs::read(&file).with_context(|| file.display().to_string())
}

/// The one `.wasm` file among cargo's messages that belongs to this folder's package.
fn artefact(messages: &[u8], dir: &Path) -> anyhow::Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    let manifest = manifest.canonicalize().with_context(|| format!("{}", manifest.display()))?;
    let mut found = Vec::new();
    for line in messages.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
        let text = |name: &str| message.get(name).and_then(|value| value.as_str());
        if text("reason") != Some("compiler-artifact")
            || text("manifest_path").and_then(|path| Path::new(path).canonicalize().ok())
                != Some(manifest.clone())
        {
            continue;
        }
        let files = message.get("filenames").and_then(|value| value.as_array());
        let files = files.into_iter().flatten().filter_map(|file| file.as_str());
        found.extend(files.filter(|file| file.ends_with(".wasm")).map(PathBuf::from));
    }
    match found.as_slice() {
        [file] => Ok(file.clone()),
        [] => bail!("{}: no .wasm file was made; is crate-type \"cdylib\"?", dir.display()),
        _ => bail!("{}: more than one .wasm file was made", dir.display()),
    }
}

/// Writes beside and renames, so that a router never reads half a component.
fn write_whole(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let draft = file.with_extension("wasm.new");
    std::fs::write(&draft, bytes).with_context(|| draft.display().to_string())?;
    std::fs::rename(&draft, file).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn message(manifest: &Path, file: &str) -> String {
        let manifest = manifest.display();
        format!(
            "{{\"reason\":\"compiler-artifact\",\"manifest_path\":\"{manifest}\",\
             \"filenames\":[\"{file}\"]}}\n"
        )
    }

    #[test]
    fn the_module_of_this_package_is_found_among_its_dependencies() {
        let scratch = Scratch::new();
        let own = scratch.path().join("Cargo.toml");
        std::fs::write(&own, "").unwrap();
        let own = own.canonicalize().unwrap();
        let other = message(Path::new("/elsewhere/Cargo.toml"), "/t/dep.wasm");
        let library = message(&own, "/t/policy.rlib");
        let messages = format!("{other}not json\n{library}{}", message(&own, "/t/policy.wasm"));
        let found = artefact(messages.as_bytes(), scratch.path()).unwrap();
        assert_eq!(found, Path::new("/t/policy.wasm"));
        let error = artefact(library.as_bytes(), scratch.path()).unwrap_err().to_string();
        assert!(error.contains("cdylib"), "{error}");
    }
}
