use super::*;

const WHOLE: &str = r#"
name = "registrar"
version = "1.0.0"
phases = ["on-request", "on-failure"]
fallback = "503"
isolation = "message"

[grants]
message = true
log = false
usrloc = { location = "write", aliases = "read" }

[limits]
fuel = 1_000
memory_bytes = 65536
wall_ms = 20

[settings]
path_flags = "p1v"
"#;

fn error(text: &str) -> String {
    Manifest::parse(text).unwrap_err().to_string()
}

/// The whole manifest with one line replaced.
fn with(old: &str, new: &str) -> String {
    assert!(WHOLE.contains(old), "{old}");
    WHOLE.replace(old, new)
}

#[test]
fn a_whole_manifest_is_read() {
    let manifest = Manifest::parse(WHOLE).unwrap();
    assert_eq!(&*manifest.name, "registrar");
    assert!(manifest.wants(Phase::Request) && manifest.wants(Phase::Failure));
    assert!(!manifest.wants(Phase::Branch) && !manifest.wants(Phase::Reply));
    assert_eq!(manifest.fallback, Fallback::Unavailable);
    assert_eq!(manifest.isolation, Isolation::Message);
    assert_eq!(manifest.limits, Limits { fuel: 1000, memory_bytes: 65536, wall_ms: 20 });
    assert_eq!(manifest.settings.get("path_flags").map(|v| &**v), Some("p1v"));
    let grants = &manifest.grants;
    assert!(grants.allows(Interface::Message) && grants.allows(Interface::Usrloc));
    assert!(!grants.allows(Interface::Log) && !grants.allows(Interface::Nat));
    assert!(grants.allows_table(Interface::Usrloc, "location", Access::Write));
    assert!(grants.allows_table(Interface::Usrloc, "aliases", Access::Read));
    assert!(!grants.allows_table(Interface::Usrloc, "aliases", Access::Write));
    assert!(!grants.allows_table(Interface::Table, "location", Access::Read));
}

#[test]
fn what_is_left_out_has_the_stated_defaults() {
    let manifest = Manifest::parse("name = \"a\"\nversion = \"0.1.0\"\n").unwrap();
    assert_eq!(manifest.limits, Limits::default());
    assert_eq!(manifest.fallback, Fallback::ServerError);
    assert_eq!(manifest.isolation, Isolation::Reuse);
    assert!(manifest.wants(Phase::Request) && !manifest.wants(Phase::Branch));
    assert!(!Interface::ALL.into_iter().any(|i| manifest.grants.allows(i)));
}

#[test]
fn errors_name_line_key_and_what_is_allowed() {
    let cases = [
        (with("\"registrar\"", "\"Registrar!\""), "line 2: `name`: a name is 1 to 64"),
        (with("name = \"registrar\"", ""), "`name`: is missing"),
        (with("1.0.0", "1.0"), "line 3: `version`: a version looks like `1.0.0`"),
        (with("1.0.0", "1.00.0"), "`version`"),
        (with("\"on-request\", ", ""), "`phases`: on-request is compulsory"),
        (with("on-failure", "on-fire"), "line 4: `phases`: no such phase; allowed: on-request"),
        (with("\"503\"", "503"), "line 5: `fallback`: allowed: a text, not `503`"),
        (with("503", "404"), "`fallback`: allowed: \"500\", \"503\", \"previous version\""),
        (
            with("log = false", "logs = true"),
            "line 10: `grants.logs`: no such key; allowed: message",
        ),
        (with("log = false", "log = 1"), "line 10: `grants.log`: allowed: true or false, not `1`"),
        (with("\"write\"", "\"all\""), "`grants.usrloc.location`: allowed: \"read\", \"write\""),
        (with("{ location = \"write\", aliases = \"read\" }", "{}"), "`grants.usrloc`: name the"),
        (with("{ location = \"write\", aliases = \"read\" }", "true"), "allowed: a table"),
        (with("1_000", "0"), "line 14: `limits.fuel`: allowed: an integer from 1 to 100000000"),
        (with("1_000", "-1"), "`limits.fuel`"),
        (with("65536", "99999999999999999999"), "`limits.memory_bytes`"),
        (with("path_flags = \"p1v\"", "path_flags = 1"), "line 19: `settings.path_flags`"),
        (with("isolation", "isolating"), "line 6: `isolating`: no such key; allowed: name"),
        ("name = \"a\"\nversion = ".to_owned(), "policy.toml line 2: "),
        (WHOLE.replace("p1v", &"x".repeat(4097)), "`settings.path_flags`: a setting is at most"),
        ("x".repeat(MAX_BYTES + 1), "longer than 65536 bytes"),
    ];
    for (text, wanted) in cases {
        let error = error(&text);
        assert!(error.contains(wanted), "{error}\n  wanted: {wanted}");
    }
}

#[test]
fn a_fault_is_told_in_one_short_line_whatever_the_manifest_holds() {
    let key = format!("\"a\\u001b[2J\\n{}\" = 1\n{WHOLE}", "x".repeat(5_000));
    let number = with("log = false", &format!("log = 1\u{0}\u{1b}{}", "9".repeat(5_000)));
    for text in [key, number] {
        let error = error(&text);
        assert!(!error.contains(char::is_control) && error.len() < 1_000, "{error:?}");
    }
}

#[test]
fn semver_texts() {
    for good in ["0.0.0", "1.2.3", "1.2.3-rc.1", "1.2.3+b-1", "1.2.3-a-b.c+d.e"] {
        assert!(is_semver(good), "{good}");
    }
    for bad in ["", "1", "1.2", "1.2.3.4", "1.2.3-", "1.2.3+", "01.2.3", "1.2.x", "1.2.3-a..b"] {
        assert!(!is_semver(bad), "{bad}");
    }
}

#[test]
fn http_is_granted_host_by_host() {
    use viaduct_engine::http::HttpOrigin;
    let text = "http = [\"https://api.example.com\", \"http://127.0.0.1:8080\"]\n";
    let manifest = Manifest::parse(&with("message = true\n", text)).unwrap();
    assert!(manifest.grants.allows(Interface::Http));
    let origin = |secure, host: &str, port| HttpOrigin { secure, host: host.into(), port };
    let grants = &manifest.grants;
    assert!(grants.allows_origin(&origin(true, "api.example.com", 443)));
    assert!(grants.allows_origin(&origin(false, "127.0.0.1", 8080)));
    assert!(!grants.allows_origin(&origin(false, "api.example.com", 80)));
    assert!(!grants.allows_origin(&origin(true, "127.0.0.1", 8080)));
    for (value, says) in [
        ("true", "allowed: a list of texts"),
        ("[]", "1 to 32 hosts"),
        ("[\"https://api.example.com/v1\"]", "with nothing after it, not `https://api.example"),
        ("[\"https://*.example.com\"]", "a host is written"),
        ("[\"api.example.com\"]", "a host is written"),
    ] {
        let text = error(&with("message = true", &format!("http = {value}")));
        assert!(text.contains("`grants.http`") && text.contains(says), "{text}");
    }
}
