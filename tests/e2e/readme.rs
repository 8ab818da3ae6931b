//! The commands of the README, run as a reader would: those of the router against a router started
//! from the configuration that `make run` uses; those that take long or go on for ever are looked up
//! where they are defined.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use viaduct_tests::or_skip;
use viaduct_tests::support::net::own_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::process::Process;
use viaduct_tests::support::router;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Lines of the README's `sh` blocks, comments cut.
fn commands(readme: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in readme.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            text if inside && !text.is_empty() => {
                found.push(text.split(" #").next().unwrap_or(text).trim().to_owned());
            }
            _ => {}
        }
    }
    found
}

/// `run/viaduct.toml` as `make run` makes it, on an address of this test's own.
fn configure(folder: &Path) -> Result<()> {
    let example = root().join("router/daemon/examples/loopback.toml");
    let text = fs::read_to_string(&example).context("the example of make run")?;
    let component = policy::shipped("registrar")?;
    let text = text
        .replace("127.0.0.1:5060", &format!("{}:5060", own_address()))
        .replace("127.0.0.1:9290", "off")
        .replace("../policies/registrar/registrar.wasm", &component.display().to_string());
    fs::create_dir(folder.join("run"))?;
    fs::write(folder.join("run/viaduct.toml"), text)?;
    Ok(())
}

#[test]
fn every_command_of_the_readme_works() -> Result<()> {
    let binary = or_skip!(router::binary(), "{}", router::NO_BINARY);
    let readme = fs::read_to_string(root().join("README.md"))?;
    let makefile = fs::read_to_string(root().join("Makefile"))?;
    let folder = TempDir::with_prefix("viaduct-readme-")?;
    fs::create_dir_all(folder.path().join("target/release"))?;
    symlink(binary.canonicalize()?, folder.path().join("target/release/viaduct"))?;
    configure(folder.path())?;
    let mut start = Command::new("target/release/viaduct");
    start.args(["--config", "run/viaduct.toml", "run"]).current_dir(folder.path());
    let router = Process::start("viaduct", &mut start)?;
    let ready = |line: &str| line.starts_with("viaduct ready");
    router.wait_for_line("ready", Duration::from_secs(30), ready)?;
    let mut ran = 0;
    for command in commands(&readme) {
        if let Some(target) = command.strip_prefix("make ") {
            let defined = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            ensure!(defined, "`{command}`: the Makefile has no such target");
        } else if let Some(rest) = command.strip_prefix("cargo run --release -p viaduct --example ")
        {
            let name = rest.split(' ').next().unwrap_or_default();
            let file = root().join(format!("router/daemon/examples/{name}/main.rs"));
            ensure!(file.is_file(), "`{command}`: there is no such example");
        } else {
            let output = Command::new("sh")
                .args(["-ec", &command])
                .current_dir(folder.path())
                .output()
                .with_context(|| command.clone())?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "`{command}` ended with {}:\n{said}", output.status);
            ran += 1;
        }
    }
    ensure!(ran >= 8, "only {ran} commands were found to run");
    Ok(())
}
