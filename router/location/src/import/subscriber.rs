//! A row of `subscriber`, in Kamailio's layout or OpenSIPS'.

use super::{Row, Skip};

/// A user with the secrets of digest authentication.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Name, `username`.
    pub name: String,
    /// Realm, `domain`.
    pub realm: String,
    /// Password in plain text.
    pub password: Option<String>,
    /// H(A1) by MD5, SHA-256 and SHA-512-256, lower-case hexadecimal.
    pub hashes: [Option<String>; 3],
}

impl std::fmt::Debug for User {
    /// Name only: secrets do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({}@{})", self.name, self.realm)
    }
}

/// Columns of the hashes with how long they are, digits.
const HASHES: [(&str, usize); 3] = [("ha1", 32), ("ha1_sha256", 64), ("ha1_sha512t256", 64)];

pub(super) fn read(row: &Row, domain: Option<&str>) -> Result<User, Skip> {
    let text = |column: &'static str| {
        let bytes = row.get(column).map(<[u8]>::to_vec);
        bytes.map(|b| String::from_utf8(b).map_err(|_| Skip::Value(column))).transpose()
    };
    let name = text("username")?.ok_or(Skip::Missing("username"))?;
    let realm = text("domain")?.or(domain.map(str::to_owned)).ok_or(Skip::Missing("domain"))?;
    let mut hashes = [const { None }; 3];
    for ((column, digits), hash) in HASHES.into_iter().zip(&mut hashes) {
        let Some(found) = text(column)? else { continue };
        if found.len() != digits || !found.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Skip::Value(column));
        }
        *hash = Some(found.to_ascii_lowercase());
    }
    let password = text("password")?;
    if password.is_none() && hashes.iter().all(Option::is_none) {
        return Err(Skip::Missing("password"));
    }
    Ok(User { name, realm, password, hashes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[(&str, &str)]) -> Row {
        let value =
            |(name, value): &(&str, &str)| ((*name).to_owned(), Some(value.as_bytes().to_vec()));
        Row { values: values.iter().map(value).collect() }
    }

    #[test]
    fn a_user_has_a_password_or_a_hash_and_is_never_shown_with_it() {
        let md5 = "5F4DCC3B5AA765D61D8327DEB882CF99";
        let all = [("username", "alice"), ("domain", "d"), ("password", ""), ("ha1", md5)];
        let user = read(&row(&all), None).unwrap();
        assert_eq!(user.hashes[0].as_deref(), Some(&*md5.to_lowercase()));
        assert_eq!(format!("{user:?}"), "User(alice@d)");
        assert_eq!(read(&row(&all[..3]), None), Err(Skip::Missing("password")));
        let bad = [("username", "alice"), ("domain", "d"), ("ha1", "secret")];
        assert_eq!(read(&row(&bad), None), Err(Skip::Value("ha1")));
        let plain = [("username", "alice"), ("password", "p")];
        assert_eq!(read(&row(&plain), Some("d")).unwrap().realm, "d");
        assert_eq!(read(&row(&plain), None), Err(Skip::Missing("domain")));
    }
}
