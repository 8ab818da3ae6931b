//! `viaduct user add|passwd|remove|list`.
//!
//! A password comes from a file, a pipe or the keyboard, never as an argument, which others on the
//! machine could read. It does not leave this process: what is sent and stored are hashes.

use std::io::{IsTerminal as _, Read as _, Stdin, Write as _};

use anyhow::{Context, anyhow, bail, ensure};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use viaduct_engine::auth::challenge::is_realm;
use viaduct_engine::auth::digest::Algorithm;
use viaduct_engine::auth::{Account, Secrets};

use super::auth::user_and_realm;
use super::client::{Client, encode};
use super::{Common, UserArguments, UserCommand, UserSecret, config_file, print};
use crate::admin::{Done, SecretBody};
use crate::config::users::{NAME, REALM, is_user_name};
use crate::config::{Config, SecretSource};
use crate::control::{UserEntry, UserOrder};
use crate::credentials::{change, store::UserStore};

/// Longest password, bytes.
const MOST_BYTES: usize = 1024;
/// Users asked for at a time.
const PAGE: usize = 1000;

pub(super) fn run(common: &Common, arguments: &UserArguments) -> anyhow::Result<bool> {
    let place = Place::new(common, arguments.offline)?;
    match &arguments.command {
        UserCommand::Add(given) => {
            let (account, secrets) = account_and_secrets(given)?;
            place.change("POST", &account, UserOrder::Add(secrets))?;
            told(common, &account, "added")
        }
        UserCommand::Passwd(given) => {
            let (account, secrets) = account_and_secrets(given)?;
            place.change("PUT", &account, UserOrder::Replace(secrets))?;
            told(common, &account, "has another password")
        }
        UserCommand::Remove { user } => {
            let account = account(user)?;
            place.change("DELETE", &account, UserOrder::Remove)?;
            told(common, &account, "removed")
        }
        UserCommand::List => list(common, &place),
    }
}

/// Who carries out the orders.
enum Place {
    Router(Client),
    File(UserStore),
}

impl Place {
    fn new(common: &Common, offline: bool) -> anyhow::Result<Place> {
        if !offline {
            return Ok(Place::Router(Client::new(common)?));
        }
        let config = Config::load(&config_file(common))?;
        let path = config.auth.and_then(|auth| auth.users_store);
        let path = path.context("[auth] users_store names no file in this configuration")?;
        Ok(Place::File(UserStore::open(&path)?))
    }

    fn change(&self, method: &str, account: &Account, order: UserOrder) -> anyhow::Result<()> {
        match self {
            Place::File(store) => Ok(change(store, account, &order)?),
            Place::Router(client) => {
                let (user, realm) = (encode(&account.user), encode(&account.realm));
                let path = format!("/v1/user?user={user}&realm={realm}");
                let body = match &order {
                    UserOrder::Add(secrets) | UserOrder::Replace(secrets) => {
                        serde_json::to_vec(&body(secrets))?
                    }
                    UserOrder::Remove => Vec::new(),
                };
                client.request(method, &path, &body).map(drop)
            }
        }
    }

    fn page(&self, after: Option<&UserEntry>) -> anyhow::Result<Vec<UserEntry>> {
        match self {
            Place::File(store) => {
                let after = after.map(|entry| Account {
                    realm: entry.realm.as_str().into(),
                    user: entry.user.as_str().into(),
                });
                let listed = store.list(after.as_ref(), PAGE)?;
                Ok(listed.into_iter().map(UserEntry::from).collect())
            }
            Place::Router(client) => {
                let after = after.map_or_else(String::new, |entry| {
                    let (user, realm) = (encode(&entry.user), encode(&entry.realm));
                    format!("&after_user={user}&after_realm={realm}")
                });
                client.get(&format!("/v1/user?about={PAGE}{after}"))
            }
        }
    }
}

fn body(secrets: &Secrets) -> SecretBody {
    let hex = |algorithm| {
        let hex = secrets.get(algorithm)?.to_hex();
        Some(String::from_utf8_lossy(hex.as_ref()).into_owned())
    };
    SecretBody {
        password: None,
        md5: hex(Algorithm::Md5),
        sha256: hex(Algorithm::Sha256),
        sha512_256: hex(Algorithm::Sha512_256),
    }
}

fn told(common: &Common, account: &Account, what: &str) -> anyhow::Result<bool> {
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(&Done {})?));
    }
    print(&format!("{}@{} {what}\n", account.user, account.realm))
}

fn list(common: &Common, place: &Place) -> anyhow::Result<bool> {
    let mut last: Option<UserEntry> = None;
    loop {
        let page = place.page(last.as_ref())?;
        let Some(end) = page.last() else { return Ok(true) };
        let mut text = String::new();
        for entry in &page {
            if common.json {
                text.push_str(&serde_json::to_string(entry)?);
            } else {
                let algorithms = entry.algorithms.join(", ");
                text.push_str(&format!("{}@{}  {algorithms}", entry.user, entry.realm));
            }
            text.push('\n');
        }
        print(&text)?;
        last = Some(end.clone());
    }
}

fn account(text: &str) -> anyhow::Result<Account> {
    let (user, realm) = user_and_realm(text)?;
    ensure!(is_user_name(user), "user {user:?}: allowed: {NAME}");
    ensure!(is_realm(realm), "realm {realm:?}: allowed: {REALM}");
    Ok(Account { realm: realm.into(), user: user.into() })
}

fn account_and_secrets(given: &UserSecret) -> anyhow::Result<(Account, Secrets)> {
    // Before anybody types for nothing.
    let account = account(&given.user)?;
    let text = match &given.password_file {
        Some(file) => SecretSource::File(file.clone()).read()?,
        None => from_stdin()?,
    };
    let secrets = Secrets::of_password(&account.user, &account.realm, password(&text)?);
    Ok((account, secrets))
}

/// One line; what it ends with is no part of it.
fn password(text: &str) -> anyhow::Result<&str> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    ensure!(!line.is_empty(), "the password is empty");
    ensure!(line.len() <= MOST_BYTES, "the password is longer than {MOST_BYTES} bytes");
    ensure!(!line.chars().any(char::is_control), "the password is more than one line of text");
    Ok(line)
}

fn from_stdin() -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut text = String::new();
        let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX).saturating_add(3);
        // Its words for what is no text quote nothing.
        stdin.lock().take(most).read_to_string(&mut text).context("password from stdin")?;
        return Ok(text);
    }
    let first = typed(&stdin, "Password: ")?;
    if first != typed(&stdin, "Again: ")? {
        bail!("the two are not the same");
    }
    Ok(first)
}

/// A line that the terminal does not show.
fn typed(stdin: &Stdin, prompt: &str) -> anyhow::Result<String> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    let shown = tcgetattr(stdin).map_err(|fault| anyhow!("terminal: {fault}"))?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    hidden.local_flags.insert(LocalFlags::ECHONL);
    tcsetattr(stdin, SetArg::TCSAFLUSH, &hidden)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(stdin, SetArg::TCSANOW, &shown)?;
    read.context("password from the terminal")?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_of_text_without_its_end() {
        for (text, expected) in
            [("secret\n", "secret"), ("secret\r\n", "secret"), (" a b ", " a b "), ("ü\n", "ü")]
        {
            assert_eq!(password(text).unwrap(), expected);
        }
        for (text, needle) in [
            ("", "empty"),
            ("\n", "empty"),
            ("hidden\nother\n", "one line"),
            ("hidden\0", "one line"),
            (&"hidden".repeat(200), "longer"),
        ] {
            let fault = password(text).unwrap_err().to_string();
            assert!(fault.contains(needle) && !fault.contains("hidden"), "{fault}");
        }
    }

    #[test]
    fn what_is_sent_are_hashes() {
        let secrets = Secrets::of_password("Mufasa", "testrealm@host.com", "Circle Of Life");
        let text = serde_json::to_string(&body(&secrets)).unwrap();
        assert!(text.contains("\"md5\":\"939e7578ed9e3c518a452acee763bce9\""), "{text}");
        assert!(text.contains("sha256") && text.contains("sha512_256"), "{text}");
        assert!(!text.contains("password") && !text.contains("Circle"), "{text}");
    }

    #[test]
    fn users_are_told_apart_from_realms_by_the_last_at() {
        let found = account("a@b@example.com").unwrap();
        assert_eq!((&*found.user, &*found.realm), ("a@b", "example.com"));
        for text in ["alice", "@example.com", "alice@", "a\n@r"] {
            assert!(account(text).is_err(), "{text:?}");
        }
    }
}
