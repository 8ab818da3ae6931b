//! The command line: what parses, to what, and what does not.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("viaduct").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_taken() {
    for line in [
        "run --config v.toml",
        "run --show",
        "check --config v.toml",
        "status --json --admin unix:/a.sock",
        "--admin 127.0.0.1:8060 --token-file t status",
        "location show alice@example.com",
        "location dump --table other --json",
        "location remove alice@example.com",
        "location remove alice@example.com sip:alice@192.0.2.1",
        "location export --table other",
        "location import dump.sql --domain example.com --utc-offset-min -120 --users u.toml",
        "location verify --config v.toml",
        "location repair",
        "user add alice@example.com",
        "user passwd a@b@example.com --password-file p --offline",
        "user remove alice@example.com",
        "user list --json",
        "policy list",
        "policy deploy a.wasm",
        "policy rollback",
        "policy deploy a.wasm --scope domain:example.com",
        "policy rollback --scope listener:udp:192.0.2.1:5060",
        "policy activate 3",
        "policy pin",
        "policy unpin --scope domain:example.com",
        "policy withdraw --scope domain:example.com",
        "policy diff 3 new.wasm",
        "policy canary start a.wasm --share 2.5",
        "policy canary promote",
        "policy canary stop",
        "policy shadow start a.wasm",
        "policy shadow stop",
        "record calls.jsonl --for 10 --method REGISTER --method INVITE --share 0.5 --messages",
        "replay calls.jsonl --policy a.wasm --case 3 --save-test policies/registrar",
        "trace alice --for 10 --pcap calls.pcap",
        "trace --record calls.jsonl",
        "policy new mine --sdk ../guest-sdk",
        "policy build policies/registrar --out r.wasm",
        "policy pack app.wasm policies/python-registrar --out p.wasm",
        "policy test policies/python-registrar --component p.wasm",
        "policy test",
        "policy test policies/registrar strict",
        "reload",
        "version",
    ] {
        parse(line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
    }
}

#[test]
fn usage_errors_end_with_code_2() {
    for line in ["", "fly", "location", "location show", "policy deploy", "run --sho", "status x"] {
        assert_eq!(parse(line).err().map(|fault| fault.exit_code()), Some(2), "{line}");
    }
}

#[test]
fn options_stand_before_or_behind_the_command() {
    for line in ["--json --config c status", "status --config c --json"] {
        let common = parse(line).unwrap().common;
        assert!(common.json);
        assert_eq!(common.config, Some("c".into()));
    }
}

#[test]
fn a_removal_names_the_aor_then_the_contact() {
    let cli = parse("location remove a@b sip:a@192.0.2.1").unwrap();
    let Command::Location(LocationCommand::Remove { aor, contact, table }) = cli.command else {
        panic!("another command");
    };
    assert_eq!(aor, "a@b");
    assert_eq!(contact.as_deref(), Some("sip:a@192.0.2.1"));
    assert_eq!(table.name, "location");
}
