//! `viaduct auth show|flush`.

use anyhow::Context;

use super::client::{Client, encode};
use super::{AuthCommand, Common, print};
use crate::admin::Flushed;
use crate::control::AuthStatus;

pub(super) fn run(common: &Common, command: &AuthCommand) -> anyhow::Result<bool> {
    match command {
        AuthCommand::Show => show(common),
        AuthCommand::Flush { user } => flush(common, user.as_deref()),
    }
}

fn show(common: &Common) -> anyhow::Result<bool> {
    let status: AuthStatus = Client::new(common)?.get("/v1/auth")?;
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(&status)?));
    }
    print(&words(&status))
}

fn words(status: &AuthStatus) -> String {
    if !status.on {
        return "no users are configured: nobody is authenticated\n".to_owned();
    }
    let mut out = format!("file      {} users\n", status.file_users);
    if let Some(users) = status.store_users {
        out.push_str(&format!("store     {users} users\n"));
    }
    if let Some(database) = &status.database {
        out.push_str(&format!("database  {database}\n"));
    }
    if status.store_users.is_some() || status.database.is_some() {
        out.push_str(&format!(
            "cached    {} users, {} names nobody has\n\
             asked     {} times, {} without an answer, {} under way\n",
            status.cached_users,
            status.cached_absent,
            status.asked,
            status.failed,
            status.under_way,
        ));
    }
    out
}

fn flush(common: &Common, user: Option<&str>) -> anyhow::Result<bool> {
    let path = match user {
        None => "/v1/auth".to_owned(),
        Some(text) => {
            let (user, realm) = user_and_realm(text)?;
            format!("/v1/auth?user={}&realm={}", encode(user), encode(realm))
        }
    };
    let flushed: Flushed = Client::new(common)?.delete(&path)?;
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(&flushed)?));
    }
    let noun = if flushed.flushed == 1 { "entry" } else { "entries" };
    print(&format!("{} {noun} forgotten\n", flushed.flushed))
}

/// A user name may hold an `@`, a realm hardly does.
pub(super) fn user_and_realm(text: &str) -> anyhow::Result<(&str, &str)> {
    let parts = text.rsplit_once('@');
    parts.with_context(|| format!("{text:?} is no user of a realm; allowed: user@realm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_fits_what_is_configured() {
        assert!(words(&AuthStatus::default()).contains("nobody is authenticated"));
        let file = AuthStatus { on: true, file_users: 2, ..AuthStatus::default() };
        assert_eq!(words(&file), "file      2 users\n");
        let store = AuthStatus { store_users: Some(7), ..file.clone() };
        assert!(words(&store).contains("store     7 users\ncached "), "{}", words(&store));
        let database = Some("PostgreSQL sip at db".to_owned());
        let text = words(&AuthStatus { database, asked: 7, failed: 1, ..file });
        assert!(text.contains("database  PostgreSQL sip at db\n"), "{text}");
        assert!(text.contains("asked     7 times, 1 without"), "{text}");
    }
}
