//! One deployable file: a component with its manifest inside.
//!
//! A guest compiler makes a core module whose custom section `component-type:...` says which world
//! it was written for. [`build`] turns that into a component and appends the manifest as custom
//! section `viaduct:manifest`; [`manifest_text`] reads it back.

use wasm_encoder::{ComponentSection, CustomSection};
use wasmparser::{CanonicalFunction, Parser, Payload};
use wit_component::ComponentEncoder;

use crate::manifest::{MAX_BYTES as MAX_MANIFEST_BYTES, Manifest, ManifestError};

/// Largest component, bytes. One of Python brings its interpreter: 18 MB.
pub const MAX_BYTES: usize = 32 << 20;

/// Name of the custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "viaduct:manifest";

const NO_HEADER: &str = "no WebAssembly header";

/// Why a package cannot be built or read.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The manifest is not usable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The module is no WebAssembly, or not one made for the contract.
    #[error("not a module of the policy contract: {0}")]
    Module(String),
    /// Not WebAssembly at all, or cut short.
    #[error("not a WebAssembly file: {0}")]
    NotWasm(String),
    /// A core module where a component is wanted.
    #[error("a core module, not a component; `viaduct policy build` makes one")]
    CoreModule,
    /// No manifest inside.
    #[error("no manifest inside (custom section `{MANIFEST_SECTION}`)")]
    NoManifest,
    /// More than one, or one that is no text.
    #[error("the manifest inside cannot be read: {0}")]
    BadManifestSection(&'static str),
    /// Too large.
    #[error("{0} bytes; a policy may have {MAX_BYTES}")]
    TooLarge(usize),
}

/// Makes the deployable file of a core module (or of a component without manifest) and a manifest.
pub fn build(module: &[u8], manifest: &str) -> Result<Vec<u8>, PackageError> {
    Manifest::parse(manifest)?;
    let mut component = component(module)?;
    if !sections(&component)?.is_empty() {
        return Err(PackageError::BadManifestSection("there is one already"));
    }
    let section = CustomSection { name: MANIFEST_SECTION.into(), data: manifest.as_bytes().into() };
    section.append_to_component(&mut component);
    size(&component)?;
    Ok(component)
}

/// Makes the component of a policy's tests (world `policy-tests`); it has no manifest.
pub fn build_tests(module: &[u8]) -> Result<Vec<u8>, PackageError> {
    let component = component(module)?;
    size(&component)?;
    Ok(component)
}

/// The manifest inside a component.
pub fn manifest_text(component: &[u8]) -> Result<&str, PackageError> {
    size(component)?;
    if Parser::is_core_wasm(component) {
        return Err(PackageError::CoreModule);
    }
    if !Parser::is_component(component) {
        return Err(PackageError::NotWasm(NO_HEADER.to_owned()));
    }
    match sections(component)?.as_slice() {
        [] => Err(PackageError::NoManifest),
        [data] if data.len() > MAX_MANIFEST_BYTES => {
            Err(PackageError::BadManifestSection("longer than 64 KiB"))
        }
        [data] => {
            std::str::from_utf8(data).map_err(|_| PackageError::BadManifestSection("not UTF-8"))
        }
        _ => Err(PackageError::BadManifestSection("there are several")),
    }
}

/// Names of what a component imports, in its order.
pub fn imports(component: &[u8]) -> Result<Vec<String>, PackageError> {
    let fault = |error: wasmparser::BinaryReaderError| PackageError::NotWasm(error.to_string());
    let (mut names, mut depth) = (Vec::new(), 0usize);
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(fault)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth = depth.saturating_add(1);
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    names.push(import.map_err(fault)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

/// Does a component make resources of its own, at any depth? The contract has none, and their handles
/// would be memory that no limit counts.
pub(crate) fn makes_resources(component: &[u8]) -> Result<bool, PackageError> {
    let fault = |error: wasmparser::BinaryReaderError| PackageError::NotWasm(error.to_string());
    for payload in Parser::new(0).parse_all(component) {
        let Payload::ComponentCanonicalSection(section) = payload.map_err(fault)? else { continue };
        for function in section {
            if matches!(function.map_err(fault)?, CanonicalFunction::ResourceNew { .. }) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// First 16 hexadecimal digits of the SHA-256 of a component: how versions are told apart.
pub fn hash(component: &[u8]) -> String {
    crate::version::hash(component).into()
}

fn size(component: &[u8]) -> Result<(), PackageError> {
    if component.len() > MAX_BYTES { Err(PackageError::TooLarge(component.len())) } else { Ok(()) }
}

fn component(module: &[u8]) -> Result<Vec<u8>, PackageError> {
    size(module)?;
    if Parser::is_component(module) {
        return Ok(module.to_vec());
    }
    if !Parser::is_core_wasm(module) {
        return Err(PackageError::NotWasm(NO_HEADER.to_owned()));
    }
    // The whole chain of causes: the last one names the import or export that does not fit.
    let fault = |error| PackageError::Module(format!("{error:#}"));
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(module).map_err(fault)?.encode().map_err(fault)
}

/// Manifest sections at the top level. Those of nested modules and components do not count.
fn sections(component: &[u8]) -> Result<Vec<&[u8]>, PackageError> {
    let mut found = Vec::new();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| PackageError::NotWasm(error.to_string()))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth = depth.saturating_add(1);
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == MANIFEST_SECTION => {
                found.push(section.data());
            }
            _ => {}
        }
    }
    Ok(found)
}
