//! `viaduct policy new`: a folder with a policy that builds, passes its tests and can be deployed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::print;

/// Where it goes, and what is in it; `{{name}}` and `{{sdk}}` are filled in.
const TEMPLATE: [(&str, &str); 7] = [
    ("Cargo.toml", include_str!("../../../../guest-sdk/template/Cargo.toml")),
    ("policy.toml", include_str!("../../../../guest-sdk/template/policy.toml")),
    ("README.md", include_str!("../../../../guest-sdk/template/README.md")),
    (".gitignore", include_str!("../../../../guest-sdk/template/gitignore")),
    (".cargo/config.toml", include_str!("../../../../guest-sdk/template/.cargo/config.toml")),
    ("src/lib.rs", include_str!("../../../../guest-sdk/template/src/lib.rs")),
    ("src/tests.rs", include_str!("../../../../guest-sdk/template/src/tests.rs")),
];

pub(super) fn run(name: &str, sdk: Option<&Path>) -> anyhow::Result<bool> {
    let sdk = match sdk {
        Some(sdk) if is_sdk(sdk) => sdk.canonicalize()?,
        Some(sdk) => bail!("{}: no guest SDK there", sdk.display()),
        None => find_sdk().context(
            "the guest SDK is not found above this folder nor above the program; name its folder \
             with --sdk",
        )?,
    };
    write(Path::new(name), name, &sdk)?;
    print(&format!(
        "{name}/ is there; its policy registers phones and calls them.\n\
         \x20 cd {name}\n  viaduct policy test\n  viaduct policy build\n  \
         viaduct policy deploy {name}.wasm\n"
    ))
}

fn write(dir: &Path, name: &str, sdk: &Path) -> anyhow::Result<()> {
    // A manifest's name, which is also a package's: cargo wants a letter first.
    let letters = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !letters || !name.starts_with(|first: char| first.is_ascii_lowercase()) || name.len() > 64 {
        bail!(
            "{name:?} is no name for a policy; allowed: a letter, then a-z, 0-9 and -, at most 64"
        );
    }
    fs::create_dir(dir).with_context(|| dir.display().to_string())?;
    // TOML takes a path as it is but for quotes and backslashes.
    let sdk = sdk.to_str().context("the guest SDK's path is not UTF-8")?;
    let sdk = sdk.replace('\\', "\\\\").replace('"', "\\\"");
    for (file, text) in TEMPLATE {
        let file = dir.join(file);
        let place = || file.display().to_string();
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(place)?;
        }
        let text = text.replace("{{name}}", name).replace("{{sdk}}", &sdk);
        fs::write(&file, text).with_context(place)?;
    }
    Ok(())
}

/// `guest-sdk` in a folder above the working folder or above the program: in a clone it is both.
fn find_sdk() -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let above = starts.iter().flatten().flat_map(|start| start.ancestors());
    above.map(|folder| folder.join("guest-sdk")).find(|sdk| is_sdk(sdk))?.canonicalize().ok()
}

fn is_sdk(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|text| text.contains("name = \"viaduct-guest\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_folder_holds_a_policy_of_that_name() {
        let scratch = Scratch::new();
        let dir = scratch.path().join("night-mode");
        write(&dir, "night-mode", Path::new("/opt/sdk \"x\"")).unwrap();
        let cargo: toml::Table =
            fs::read_to_string(dir.join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(cargo["package"]["name"].as_str(), Some("night-mode"));
        let sdk = &cargo["dependencies"]["viaduct-guest"]["path"];
        assert_eq!(sdk.as_str(), Some("/opt/sdk \"x\""));
        for (file, _) in TEMPLATE {
            let text = fs::read_to_string(dir.join(file)).unwrap();
            assert!(!text.contains("{{"), "{file} has a gap that is not filled in");
        }
        assert!(write(&dir, "night-mode", Path::new("/x")).is_err(), "nothing is overwritten");
    }

    #[test]
    fn names_that_cargo_or_the_manifest_refuse_are_refused_first() {
        let scratch = Scratch::new();
        for name in ["", "9lives", "Upper", "a_b", "a/b", "..", &"x".repeat(65)] {
            let dir = scratch.path().join("policy");
            assert!(write(&dir, name, Path::new("/sdk")).is_err(), "{name}");
            assert!(!dir.exists());
        }
    }

    #[test]
    fn the_sdk_of_this_clone_is_found() {
        let sdk = find_sdk().unwrap();
        assert!(sdk.join("wit").is_dir(), "{}", sdk.display());
    }
}
