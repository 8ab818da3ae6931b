//! Policies for the tests: the shipped ones, the tests' own, and copies with other settings.
//!
//! A component carries its manifest in a custom section. A copy with another next hop or version is
//! made by rewriting that section, so that what runs in a test is the artefact that ships.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use toml::Table;

use super::router;

/// Name of the section that holds the manifest.
const SECTION: &[u8] = b"viaduct:manifest";
/// Magic number, version and layer of a component.
const PREAMBLE: usize = 8;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A policy that ships, as `make policies` has built it.
///
/// # Errors
/// When it has not been built.
pub fn shipped(name: &str) -> Result<PathBuf> {
    let path = repository().join("policies").join(name).join(format!("{name}.wasm"));
    let path = path.canonicalize();
    path.with_context(|| format!("the policy {name} is not built; run `make policies`"))
}

/// Builds one of the tests' own policies (`tests/policies/NAME`) to `into`.
///
/// # Errors
/// What the build says. `Ok(None)` if there is no compiler for policies (`VIADUCT_WASM_RUSTC`).
pub fn build_own(name: &str, into: &Path) -> Result<Option<PathBuf>> {
    if env::var_os("VIADUCT_WASM_RUSTC").is_none() {
        return Ok(None);
    }
    let folder = repository().join("tests/policies").join(name).canonicalize()?;
    let file = into.join(format!("{name}.wasm"));
    let program = router::binary().context(router::NO_BINARY)?;
    let mut command = Command::new(program);
    command.args(["policy", "build"]).arg(folder).arg("--out").arg(&file);
    // One place for all of them, outside the source.
    command.env("CARGO_TARGET_DIR", repository().join("target/test-policies"));
    let output = command.output()?;
    if !output.status.success() {
        bail!("building the policy {name}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Some(file))
}

/// A copy of a component, at `to`, with its manifest changed.
///
/// # Errors
/// When `from` is not a component with a manifest, or `to` cannot be written.
pub fn copy_with(from: &Path, to: &Path, change: impl FnOnce(&mut Table)) -> Result<PathBuf> {
    let component = fs::read(from).with_context(|| from.display().to_string())?;
    let changed = change_manifest(&component, change)?;
    fs::write(to, changed).with_context(|| to.display().to_string())?;
    Ok(to.to_owned())
}

/// Puts a value under `[settings]` of a manifest.
pub fn set(manifest: &mut Table, name: &str, value: &str) {
    let settings = manifest.entry("settings").or_insert_with(|| Table::new().into());
    if let Some(settings) = settings.as_table_mut() {
        settings.insert(name.to_owned(), value.into());
    }
}

fn change_manifest(component: &[u8], change: impl FnOnce(&mut Table)) -> Result<Vec<u8>> {
    let (preamble, mut rest) = component.split_at_checked(PREAMBLE).context("no component")?;
    ensure!(preamble.starts_with(b"\0asm"), "no component");
    let mut output = preamble.to_vec();
    let mut change = Some(change);
    while let Some((&id, after_id)) = rest.split_first() {
        let (size, after_size) = leb128(after_id).context("a broken section size")?;
        let (content, next) = after_size.split_at_checked(size).context("a section cut short")?;
        let manifest = (id == 0).then(|| manifest_of(content)).flatten();
        match manifest {
            Some(text) => {
                let mut table: Table = std::str::from_utf8(text)?.parse()?;
                change.take().context("two manifests")?(&mut table);
                push_section(&mut output, &toml::to_string(&table)?);
            }
            None => {
                let length = rest.len() - next.len();
                output.extend_from_slice(rest.get(..length).unwrap_or_default());
            }
        }
        rest = next;
    }
    ensure!(change.is_none(), "the component has no manifest");
    Ok(output)
}

/// The manifest's text, if this custom section is it.
fn manifest_of(content: &[u8]) -> Option<&[u8]> {
    let (length, rest) = leb128(content)?;
    let (name, text) = rest.split_at_checked(length)?;
    (name == SECTION).then_some(text)
}

fn push_section(output: &mut Vec<u8>, text: &str) {
    let mut content = Vec::new();
    push_leb128(&mut content, SECTION.len());
    content.extend_from_slice(SECTION);
    content.extend_from_slice(text.as_bytes());
    output.push(0);
    push_leb128(output, content.len());
    output.extend_from_slice(&content);
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, octet) in bytes.iter().enumerate().take(5) {
        value |= usize::from(octet & 0x7f) << (7 * index);
        if octet & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

fn push_leb128(output: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        output.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(manifest: &str) -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend_from_slice(&[7, 3, 1, 2, 3]);
        push_section(&mut bytes, manifest);
        bytes.extend_from_slice(&[0, 3, 1, b'x', 9]);
        bytes
    }

    #[test]
    fn only_the_manifest_changes() {
        let long = "n".repeat(300);
        let before = component(&format!("name = \"{long}\"\n"));
        let after = change_manifest(&before, |manifest| set(manifest, "hop", "sip:p2")).unwrap();
        let expected = format!("name = \"{long}\"\n\n[settings]\nhop = \"sip:p2\"\n");
        assert_eq!(after, component(&expected));
    }

    #[test]
    fn what_is_no_component_is_refused() {
        assert!(change_manifest(b"\0as", |_| ()).is_err());
        assert!(change_manifest(b"\0asm\x0d\0\x01\0", |_| ()).is_err());
        let mut cut = component("a = 1\n");
        cut.pop();
        assert!(change_manifest(&cut, |_| ()).is_err());
    }
}
