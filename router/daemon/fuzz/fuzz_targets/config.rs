//! Any bytes as the file of the configuration, and as the file of users: right, or every fault with its
//! line and its key, in one line of its own. What is right can be used, and means the same again.
#![no_main]

use std::net::IpAddr;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use viaduct::config::{Config, ConfigError, ConfigErrors, listener_name, users};

fn addresses() -> Vec<IpAddr> {
    vec![
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from([192, 0, 2, 1]),
        IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]),
    ]
}

fn read(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/viaduct/v.toml"), &addresses)
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match read(&text) {
        Ok(config) => check(&config, &text),
        Err(errors) => {
            check_errors(&errors.errors, &text);
            let told = errors.to_string();
            assert_eq!(
                told.split('\n').count(),
                errors.errors.len(),
                "one fault, one line: {told}"
            );
            assert!(told.split('\n').all(|line| line.starts_with("/etc/viaduct/v.toml:")));
        }
    }
    // Where it can be one: of any other nothing is read.
    if text.contains("user")
        && let Err(errors) = users::parse(&text)
    {
        check_errors(&errors, &text);
    }
});

fn check_errors(errors: &[ConfigError], text: &str) {
    assert!(!errors.is_empty());
    let lines = text.split('\n').count();
    for error in errors {
        assert!((1..=lines).contains(&error.line), "{error:?}");
        assert!(!error.problem.is_empty(), "{error:?}");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
        // A fault of TOML itself may be of no key.
        assert!(!error.key.is_empty() || error.problem.starts_with("is no TOML"), "{error:?}");
    }
}

/// Nothing in it is out of range, and it can be shown.
fn check(config: &Config, text: &str) {
    let again = read(text).expect("the same text");
    assert_eq!(format!("{config:?}"), format!("{again:?}"));
    assert!(config.needs_restart(&again).is_empty());
    let again = config.reloaded(again);
    assert!(config.needs_restart(&again).is_empty());
    assert!((1..=64).contains(&config.workers) && !config.listeners.is_empty());
    assert!(config.listeners.iter().all(|one| {
        !one.addr.ip().is_unspecified() && one.addr.port() != 0 && !listener_name(one).is_empty()
    }));
    assert!(!config.summary().is_empty());
    let settings = config.settings(config.workers - 1, Default::default(), None, [7; 16]);
    assert!(settings.bounds.transactions > 0 && settings.bounds.branches > 0);
    let timers = settings.timers;
    assert!(timers.t1_us > 0 && timers.t1_us <= timers.t2_us);
    assert!(settings.server.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
    let registrar = &settings.registrar;
    assert!(registrar.max_expires_s == 0 || registrar.min_expires_s <= registrar.max_expires_s);
}
