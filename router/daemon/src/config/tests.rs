//! The configuration as a whole: what is refused and with which words, and the example file.

use std::net::IpAddr;
use std::path::Path;

use super::*;
use viaduct_engine::Transport;
use viaduct_engine::registrar::PathMode;

const EXAMPLE: &str = include_str!("../../viaduct.example.toml");
const LOOPBACK: &str = include_str!("../../examples/loopback.toml");
const LISTEN: &str = "[[listen]]\naddress = \"127.0.0.1:5060\"\n";

fn two_addresses() -> Vec<IpAddr> {
    vec!["127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap(), "::1".parse().unwrap()]
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/viaduct/v.toml"), &two_addresses)
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// Text in, message out.
#[test]
fn every_fault_names_file_line_key_and_what_is_allowed() {
    let table = [
        ("workers = 0\n", "v.toml:1: `workers` is 0; allowed: a whole number from 1 to 64"),
        ("workers = -1\n", "v.toml:1: `workers` is -1; allowed: a whole number from 1 to 64"),
        ("workers = 1.5\n", "v.toml:1: `workers` is 1.5; allowed: a whole number"),
        ("workers = \"2\"\n", "v.toml:1: `workers` is \"2\"; allowed: a whole number"),
        (
            "\nwokers = 2\n",
            "v.toml:2: `wokers` is not a key here; allowed: admin, auth, destination,",
        ),
        ("open = 1\n", "v.toml:1: `open` is 1; allowed: true or false"),
        ("domains = [\"a b\"]\n", "v.toml:1: `domains` has \"a b\"; allowed: host names"),
        ("domains = \"a\"\n", "v.toml:1: `domains` is \"a\"; allowed: host names"),
        ("domains = [\n\"a.b\",\n7]\n", "v.toml:3: `domains` is 7; allowed: host names"),
        ("trusted = [\"10.0.0.1/8\"]\n", "v.toml:1: `trusted` has bits set after the prefix"),
        ("server_header = \"a\\nb\"\n", "v.toml:1: `server_header` is \"a\\nb\"; allowed: print"),
        ("[policy]\nfiel = \"x\"\n", "v.toml:2: `policy.fiel` is not a key here; allowed: depl"),
        ("[policy]\nfile = \"\"\n", "v.toml:2: `policy.file` is \"\"; allowed: a path"),
        ("policy = 3\n", "v.toml:1: `policy` is 3; allowed: a table, [policy]"),
        (
            "[location]\nmode = \"disk\"\n",
            "`location.mode` is \"disk\"; allowed: \"write-through\"",
        ),
        ("[registrar]\nmax_path_values = 8\n", "is 8; allowed: a whole number from 16 to 64"),
        ("[registrar]\nmax_expires_s = 30\n", "`registrar.max_expires_s` is 30, less than min_"),
        ("[timers]\nc_ms = 180_000\n", "`timers.c_ms` is 180000; allowed: a whole number from 1"),
        ("[timers]\nt1_ms = 5000\n", "`timers.t2_ms` is less than t1_ms"),
        ("[limits]\nheaders = 9\n", "`limits.headers` is 9; allowed: a whole number from 32 to"),
        ("[admin]\nlisten = \"0.0.0.0:80\"\n", "`admin.listen` is \"0.0.0.0:80\"; allowed: \"unix"),
        ("[admin]\nlisten = \"127.0.0.1:80\"\n", "`admin.token_file` is missing"),
        ("[metrics]\nlisten = \"192.0.2.1:80\"\n", "`metrics.listen` is 192.0.2.1:80: whoever"),
        ("[log]\nformat = \"xml\"\n", "`log.format` is \"xml\"; allowed: \"text\", \"json\""),
        ("workers = 1\nworkers = 2\n", "v.toml:2: is no TOML: duplicate key"),
        ("workers = \n", "v.toml:1: is no TOML: "),
        // What a terminal would obey, or what would look like a fault of its own.
        ("\"a\\n\\u001b[2J\" = 1\n", "v.toml:1: `a\\n\\u{1b}[2J` is not a key here; allowed: "),
    ];
    for (text, expected) in table {
        let message = refusal(&format!("{text}{LISTEN}"));
        assert!(message.contains(expected), "{text}\ngave: {message}\nnot:  {expected}");
        assert!(!message.contains(char::is_control), "{message:?}");
        assert!(message.starts_with("/etc/viaduct/v.toml:"), "{message}");
        assert_eq!(message.lines().count(), 1, "one fault, one line: {message}");
    }
}

/// TOML says of a number only that it begins like one.
#[test]
fn a_number_of_any_length_with_anything_in_it_is_told_in_one_short_line() {
    for number in ["9".repeat(10_000), format!("1{}", "\0".repeat(1000)), "1.5".repeat(500)] {
        let message = refusal(&format!("workers = {number}\n{LISTEN}"));
        assert!(message.len() < 1000 && !message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn a_listener_for_everybody_needs_users_or_a_decision() {
    let listen = "[[listen]]\naddress = \"192.0.2.1:5060\"\n";
    assert!(refusal(listen).contains("users in [auth] or `open = true`"));
    let config = parse(&format!("{listen}[auth]\nusers_file = \"users.toml\"\n")).unwrap();
    let auth = config.auth.unwrap();
    assert_eq!(auth.users_file.as_deref(), Some(Path::new("/etc/viaduct/users.toml")));
    assert_eq!(auth.algorithms, [viaduct_engine::auth::Algorithm::Md5]);
    // A table without a source of users switches nothing on.
    let message = refusal(&format!("{listen}[auth]\nrealm = \"example.com\"\n"));
    assert!(message.contains("without authentication"), "{message}");
    let url = "[auth.postgres]\nurl_env = \"URL\"\n";
    let config = parse(&format!("{listen}{url}")).unwrap();
    assert!(config.auth.is_some_and(|auth| auth.postgres.is_some()));
}

#[test]
fn authentication_is_checked_key_by_key() {
    for (text, expected) in [
        ("algorithms = [\"SHA-1\"]\n", "`auth.algorithms` has \"SHA-1\"; allowed: a list of"),
        ("algorithms = []\n", "`auth.algorithms` is empty"),
        ("realm = \"a\\\"b\"\n", "`auth.realm` is \"a"),
        ("nonce_life_s = 1\n", "`auth.nonce_life_s` is 1; allowed: a whole number from 10 to"),
        ("password = \"x\"\n", "`auth.password` is not a key here"),
        ("[auth.postgres]\nurl = \"a\"\n", "`auth.postgres.url` is not a key here"),
    ] {
        let message = refusal(&format!("{LISTEN}[auth]\n{text}"));
        assert!(message.contains(expected), "{text}\ngave: {message}\nnot:  {expected}");
    }
}

#[test]
fn listeners_are_checked_one_by_one() {
    let table = [
        ("", "`listen` is missing: nothing would be served; allowed: at least one [[listen]]"),
        ("[[listen]]\n", "v.toml:1: `listen[1].address` is missing; allowed: an IP address"),
        ("[[listen]]\naddress = \"here\"\n", "v.toml:2: `listen[1].address` is \"here\"; allowed"),
        ("[[listen]]\naddress = \"127.0.0.1:0\"\n", "others must know the port; allowed: a port"),
        ("[[listen]]\naddress = \"224.0.1.75:5060\"\n", "`listen[1].address` is \"224.0.1.75:5060"),
        ("[[listen]]\naddress = \"192.0.2.1:5060\"\n", "without authentication; allowed: a loopb"),
        ("[[listen]]\naddress = \"0.0.0.0:5060\"\n", "without authentication; allowed: a loopback"),
        (
            "[[listen]]\naddress = \"127.0.0.1:5060\"\ntransports = [\"tls\"]\n",
            "v.toml:3: `listen[1].transports` has \"tls\"; allowed: a list of \"udp\", \"tcp\"",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:5060\"\ntransports = []\n",
            "v.toml:3: `listen[1].transports` is empty; allowed: a list of",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:5060\"\nadvertise = \"0.0.0.0\"\n",
            "v.toml:3: `listen[1].advertise` is \"0.0.0.0\"; allowed: a host name",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\n\
             transports = [\"tcp\"]\n",
            "v.toml:4: `listen[2].address` binds tcp 127.0.0.1:1 twice",
        ),
    ];
    for (text, expected) in table {
        let message = refusal(text);
        assert!(message.contains(expected), "{text}\ngave: {message}\nnot:  {expected}");
    }
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_their_lines() {
    let text = format!("workers = 99\n{LISTEN}x = 1\n[limits]\nheaders = 1\nbranches = 0\n");
    let errors = parse(&text).unwrap_err().errors;
    let found: Vec<(usize, &str)> = errors.iter().map(|e| (e.line, e.key.as_str())).collect();
    let expected =
        [(1, "workers"), (4, "listen[1].x"), (6, "limits.headers"), (7, "limits.branches")];
    assert_eq!(found, expected);
}

#[test]
fn a_wildcard_stands_for_the_addresses_of_its_family() {
    let text = "open = true\n[[listen]]\naddress = \"0.0.0.0:5060\"\ntransports = [\"udp\"]\n\
                advertise = \"sip.example.com\"\n[[listen]]\naddress = \"[::]:5070\"\n";
    let config = parse(text).unwrap();
    let found: Vec<String> = config.listeners.iter().map(listener_name).collect();
    let expected = ["udp 127.0.0.1:5060", "udp 192.0.2.1:5060", "udp [::1]:5070", "tcp [::1]:5070"];
    assert_eq!(found, expected);
    assert_eq!(&*config.listeners[1].host, "sip.example.com");
    assert_eq!(&*config.listeners[2].host, "[::1]");
    let domains: Vec<&str> = config.domains.iter().map(|domain| &**domain).collect();
    assert_eq!(domains, ["sip.example.com", "[::1]"]);
}

#[test]
fn relative_paths_count_from_the_folder_of_the_file() {
    let text = format!("state_dir = \"state\"\n{LISTEN}[admin]\nlisten = \"unix:a.sock\"\n");
    let config = parse(&text).unwrap();
    assert_eq!(config.location.file, Path::new("/etc/viaduct/state/location.redb"));
    assert_eq!(config.path_key_file, Path::new("/etc/viaduct/state/path.keys"));
    let listen = AdminAddr::Unix("/etc/viaduct/a.sock".into());
    assert_eq!(config.admin, Some(AdminConfig { listen, token_file: None }));
}

#[test]
fn the_engine_gets_what_the_file_says() {
    let text = format!(
        "workers = 4\ndomains = [\"EXAMPLE.com\", \"2001:db8::1\"]\nserver_header = \"\"\n\
         trusted = [\"10.0.0.0/8\"]\n{LISTEN}[registrar]\npath_mode = \"strict\"\n\
         min_expires_s = 0\n[timers]\nt1_ms = 100\n[limits]\ntransactions = 1001\n"
    );
    let config = parse(&text).unwrap();
    let settings = config.settings(3, PathKeys::default(), None, [7; 16]);
    assert_eq!(settings.worker, 3);
    assert!(settings.is_our_domain(b"example.com") && settings.is_our_domain(b"[2001:db8::1]"));
    assert!(settings.is_trusted("10.9.8.7".parse().unwrap()));
    assert!(!settings.is_trusted("11.0.0.1".parse().unwrap()));
    assert_eq!(settings.registrar.path_mode, PathMode::Strict);
    assert_eq!(settings.registrar.min_expires_s, 0);
    assert_eq!(settings.timers.t1_us, 100_000);
    assert_eq!(settings.bounds.transactions, 251, "the router's bound, shared by four workers");
    assert_eq!(&*settings.server, "");
    assert_eq!(settings.listeners[0].transport, Transport::Udp);
}

/// The default of every key, as the reader knows it, stands in the example; and the example holds
/// no key that does not exist.
#[test]
fn the_example_lists_every_key_with_its_default() {
    let everything: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let (config, errors, keys) = keys::read(&everything, Path::new("/x.toml"), &two_addresses);
    assert!(config.is_some() && errors.is_empty(), "{errors:?}");
    let mut table = String::new();
    let mut listed = Vec::new();
    for line in everything.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_matches(['[', ']']));
        } else if let Some((key, value)) = line.split_once(" = ") {
            listed.push((format!("{table}{key}"), value.replace('_', "")));
        }
    }
    for key in &keys {
        let found = listed.iter().find(|(name, _)| *name == key.name);
        let (_, value) = found.unwrap_or_else(|| panic!("{} is not in the example", key.name));
        if !key.default.is_empty() && key.name != "workers" {
            assert_eq!(*value, key.default.replace('_', ""), "default of {}", key.name);
        }
    }
    assert_eq!(listed.len(), keys.len(), "each key once");
}

#[test]
fn the_example_and_the_file_of_make_run_are_accepted_as_they_are() {
    parse(EXAMPLE).unwrap();
    let config = Config::parse(LOOPBACK, Path::new("/w/run/viaduct.toml"), &two_addresses).unwrap();
    assert!(config.listeners.iter().all(|listener| listener.addr.ip().is_loopback()));
    assert_eq!(config.policy.file, Path::new("/w/run/../policies/registrar/registrar.wasm"));
    assert!(config.log.show);
}

#[test]
fn a_reload_knows_what_needs_a_restart() {
    let old = parse(LISTEN).unwrap();
    let new = parse(&format!("trusted = [\"::1\"]\n{LISTEN}")).unwrap();
    assert!(old.needs_restart(&new).is_empty());
    let new = parse(&format!("workers = 63\n{LISTEN}[limits]\nbranches = 2\n")).unwrap();
    assert_eq!(old.needs_restart(&new), ["workers", "limits"]);
    let merged = old.reloaded(new);
    assert!(old.needs_restart(&merged).is_empty());
    assert_ne!(merged.workers, 63);
}

/// The example with the keys that it has as comments.
fn in_force(example: &str) -> String {
    let lines = example.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1_000))]

    /// Whatever is done to the example, with its keys in force: a configuration, or what is wrong.
    #[test]
    fn any_damage_to_a_configuration_is_told_without_panic(
        damage in proptest::collection::vec(
            (proptest::prelude::any::<proptest::sample::Index>(), 0usize..40, "[ -~\n]{0,12}"),
            1..6,
        ),
    ) {
        let mut text: Vec<u8> = in_force(EXAMPLE).into_bytes();
        for (at, length, new) in damage {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, new.into_bytes());
        }
        for text in [&text[..], &text[text.len() / 2..]] {
            if let Err(errors) = parse(&String::from_utf8_lossy(text)) {
                proptest::prop_assert!(errors.to_string().contains("v.toml"), "{}", errors);
            }
        }
    }
}
