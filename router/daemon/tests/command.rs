//! The command as a process: exit codes, and what goes to stdout and stderr.
#![allow(clippy::unwrap_used)] // helpers of tests are outside what clippy.toml allows

use std::path::PathBuf;
use std::process::{Command, Output};

fn viaduct(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_viaduct"));
    command.args(args).env_remove("VIADUCT_ADMIN").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file of its own for a test.
struct File(PathBuf);

impl File {
    fn new(name: &str, contents: &str) -> File {
        let file = std::env::temp_dir().join(format!("viaduct-{}-{name}", std::process::id()));
        std::fs::write(&file, contents).unwrap();
        File(file)
    }
    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_right_configuration_is_summed_up() {
    let file = File::new("right.toml", "[[listen]]\naddress = \"127.0.0.1:5060\"\n");
    let output = viaduct(&["check", "--config", file.path()]);
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with(&format!("{}: ok\n", file.path())), "{stdout}");
    assert!(stdout.contains("udp 127.0.0.1:5060, tcp 127.0.0.1:5060"), "{stdout}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_wrong_configuration_fails_with_every_error_on_a_line_of_its_own() {
    let file = File::new("wrong.toml", "workers = 0\nopne = true\n");
    for command in ["check", "run"] {
        let output = viaduct(&[command, "--config", file.path()]);
        let stderr = text(&output.stderr);
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), 3, "{stderr}");
        assert!(lines[0].starts_with(&format!("{}:1: `workers` is 0", file.path())), "{stderr}");
        assert!(lines[1].starts_with(&format!("{}:1: `listen` is missing", file.path())));
        assert!(lines[2].starts_with(&format!("{}:2: `opne` is not a key", file.path())));
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let output = viaduct(&["run", "--config", "/nowhere/viaduct.toml"]);
    assert!(text(&output.stderr).contains("/nowhere/viaduct.toml:1: cannot be read"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_a_router_client_commands_say_where_they_looked() {
    let output = viaduct(&["status", "--admin", "/nowhere/admin.sock"]);
    assert!(text(&output.stderr).contains("no router answers at /nowhere/admin.sock"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn usage_errors_have_their_own_code() {
    assert_eq!(viaduct(&["fly"]).status.code(), Some(2));
    assert_eq!(viaduct(&["location", "show"]).status.code(), Some(2));
}

#[test]
fn the_version_is_the_packages() {
    let output = viaduct(&["version"]);
    assert_eq!(text(&output.stdout), format!("viaduct {}\n", env!("CARGO_PKG_VERSION")));
}
