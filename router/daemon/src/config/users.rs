//! The file with users and their passwords or hashes.
//!
//! ```toml
//! [[user]]
//! name = "alice"
//! realm = "example.com"
//! password = "..."
//! ```
//! Instead of a password, or beside it, `md5`, `sha256` and `sha512_256` hold H(A1) of RFC 7616
//! 3.4.2 in hexadecimal digits: the hash of `name:realm:password`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;
use viaduct_engine::auth::challenge::is_realm;
use viaduct_engine::auth::digest::Hash;
use viaduct_engine::auth::{Account, Algorithm, Secrets};

use super::error::{ConfigError, ConfigErrors};
use super::reader::{Section, Sheet};
use super::secret;

/// Most users of a file.
const MOST_USERS: usize = 1_000_000;
/// Longest file, bytes.
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// What a user's name may be.
pub(crate) const NAME: &str = "1 to 256 bytes without control characters";
/// What a realm may be.
pub(crate) const REALM: &str = "1 to 255 bytes without quotes, backslashes and control characters";

/// As [`NAME`] says.
pub(crate) fn is_user_name(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// All users of a file.
pub type UserTable = HashMap<Account, Arc<Secrets>>;

/// Reads and checks a file; nobody but its owner and group may read it.
pub fn load(file: &Path) -> Result<UserTable, ConfigErrors> {
    let text = secret::read(file, MOST_BYTES).map_err(|problem| {
        let error = ConfigError { line: 1, key: String::new(), problem, allowed: String::new() };
        ConfigErrors::new(file, vec![error])
    })?;
    parse(&text).map_err(|errors| ConfigErrors::new(file, errors))
}

/// Reads and checks what such a file holds.
pub fn parse(text: &str) -> Result<UserTable, Vec<ConfigError>> {
    let sheet = Sheet::new(text);
    let (document, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        // The message of a syntax error names no content.
        let at = fault.span().map_or(0, |span| span.start);
        sheet.fault(at, "", format!("is no TOML: {}", fault.message()), "");
    }
    let mut users = UserTable::new();
    if faults.is_empty() {
        let mut top = Section::top(&sheet, document.get_ref());
        for section in top.sections("user", MOST_USERS) {
            user(section, &sheet, &mut users);
        }
        top.close();
    }
    let (errors, _) = sheet.finish();
    if errors.is_empty() { Ok(users) } else { Err(errors) }
}

fn user(mut section: Section<'_, '_>, sheet: &Sheet<'_>, users: &mut UserTable) {
    let name = section.text_if("name", "", NAME, is_user_name);
    let realm = section.text_if("realm", "", REALM, is_realm);
    let at = section.at();
    for (key, text, allowed) in [("name", &name, NAME), ("realm", &realm, REALM)] {
        if text.is_none() && section.place(key) == at {
            sheet.fault(at, &section.name(key), "is missing".into(), allowed);
        }
    }
    let password = section.secret("password", "a text");
    let hashes = [
        ("md5", Algorithm::Md5, "32 hexadecimal digits"),
        ("sha256", Algorithm::Sha256, "64 hexadecimal digits"),
        ("sha512_256", Algorithm::Sha512_256, "64 hexadecimal digits"),
    ]
    .map(|(key, algorithm, allowed)| {
        let hex = section.secret(key, allowed)?;
        let hash = Hash::from_hex(algorithm, &hex.value);
        if hash.is_none() {
            sheet.fault(hex.at, &hex.key, "is no such hash".into(), allowed);
        }
        hash.map(|hash| (algorithm, hash))
    });
    if let (Some(name), Some(realm)) = (name, realm) {
        let mut secrets = match &password {
            Some(password) => Secrets::of_password(&name.value, &realm.value, &password.value),
            None => Secrets::default(),
        };
        for (algorithm, hash) in hashes.into_iter().flatten() {
            secrets.set(algorithm, hash);
        }
        if secrets.is_empty() {
            let problem = format!("{} has neither password nor hash", name.value);
            sheet.fault(
                at,
                &section.name("password"),
                problem,
                "password, md5, sha256, sha512_256",
            );
        }
        let account = Account { realm: realm.value.into(), user: name.value.into() };
        if users.insert(account, Arc::new(secrets)).is_some() {
            sheet.fault(name.at, &name.key, "is there twice in this realm".into(), "each once");
        }
    }
    section.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "[[user]]\nname = \"alice\"\nrealm = \"example.com\"\n";

    fn account(user: &str) -> Account {
        Account { realm: "example.com".into(), user: user.into() }
    }

    fn same(secrets: &Secrets, algorithm: Algorithm, hex: &str) -> bool {
        secrets.get(algorithm).is_some_and(|hash| hash.is_hex(hex.as_bytes()))
    }

    #[test]
    fn a_password_gives_every_hash_and_a_hash_only_its_own() {
        let md5 = "939e7578ed9e3c518a452acee763bce9";
        let text = format!(
            "{ALICE}password = \"secret\"\n\
             [[user]]\nname = \"bob\"\nrealm = \"example.com\"\nmd5 = \"{md5}\"\n"
        );
        let users = parse(&text).unwrap();
        let alice = &users[&account("alice")];
        assert!(Algorithm::ALL.into_iter().all(|algorithm| alice.get(algorithm).is_some()));
        let bob = &users[&account("bob")];
        assert!(same(bob, Algorithm::Md5, md5));
        assert!(bob.get(Algorithm::Sha256).is_none());
    }

    #[test]
    fn faults_name_line_and_key_and_quote_no_secret() {
        for (text, expected) in [
            ("[[user]]\nname = \"a\"\n".to_owned(), "1: `user[1].realm` is missing"),
            (ALICE.to_owned(), "1: `user[1].password` alice has neither password nor hash"),
            (format!("{ALICE}password = 12345\n"), "4: `user[1].password` is no text"),
            (format!("{ALICE}md5 = \"12345\"\n"), "4: `user[1].md5` is no such hash"),
            (format!("{ALICE}sha1 = \"x\"\npassword = \"p\"\n"), "4: `user[1].sha1` is not a key"),
            ("[[user]]\nname = \"\\n\"\nrealm = \"r\"\npassword = \"p\"\n".into(), "2: `user[1].n"),
            (format!("{ALICE}password = \"p\"\n{ALICE}password = \"p\"\n"), "6: `user[2].name` is"),
            ("users = 1\n".to_owned(), "1: `users` is not a key here"),
            ("x".to_owned(), "1: is no TOML"),
        ] {
            let errors = ConfigErrors::new(Path::new("u"), parse(&text).unwrap_err()).to_string();
            assert!(errors.contains(&format!("u:{expected}")), "{text}\ngave: {errors}");
            assert!(!errors.contains("12345"), "{errors}");
        }
    }
}
