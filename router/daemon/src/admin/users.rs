//! Users: where they come from, what is cached of them, and those the router keeps itself.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use viaduct_engine::auth::challenge::is_realm;
use viaduct_engine::auth::digest::Hash;
use viaduct_engine::auth::{Algorithm, Secrets};

use super::Api;
use super::routes::{Fault, ask, bad_query};
use crate::config::users::{NAME, REALM, is_user_name};
use crate::control::UserOrder;

const PLACE: &str = "/v1/auth";
const USER_PLACE: &str = "/v1/user";
/// Users of one page: default and most.
const PAGE: usize = 100;
const MOST_PAGE: usize = 1000;

pub(super) async fn status(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    ask(&api, PLACE, |control| control.auth()).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserQuery {
    user: Option<String>,
    realm: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Flushed {
    pub(crate) flushed: usize,
}

pub(super) async fn flush(
    State(api): State<Api>,
    query: Result<Query<UserQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Fault> {
    let Query(query) = query.map_err(|fault| bad_query(PLACE, &fault))?;
    let user = match (query.user, query.realm) {
        (Some(user), Some(realm)) => Some((user, realm)),
        (None, None) => None,
        _ => {
            let error = "one of user and realm is missing; allowed: both, or none for all users";
            return Err(Fault::new(StatusCode::BAD_REQUEST, "user", error));
        }
    };
    let flushed = ask(&api, PLACE, move |control| {
        control.flush_auth(user.as_ref().map(|(user, realm)| (user.as_str(), realm.as_str())))
    });
    let flushed = flushed.await?.map_err(|refusal| Fault::refused("user", refusal))?;
    Ok(Json(Flushed { flushed }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after_user: Option<String>,
    after_realm: Option<String>,
    about: Option<usize>,
}

pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Fault> {
    let Query(query) = query.map_err(|fault| bad_query(USER_PLACE, &fault))?;
    let about = query.about.unwrap_or(PAGE);
    if !(1..=MOST_PAGE).contains(&about) {
        let error = format!("about is {about}; allowed: 1 to {MOST_PAGE}");
        return Err(Fault::new(StatusCode::BAD_REQUEST, "about", error));
    }
    let after = match (query.after_user, query.after_realm) {
        (Some(user), Some(realm)) => Some((user, realm)),
        (None, None) => None,
        _ => {
            let error = "one of after_user and after_realm is missing; allowed: both, or none";
            return Err(Fault::new(StatusCode::BAD_REQUEST, "after_user", error));
        }
    };
    let listed = ask(&api, USER_PLACE, move |control| {
        let after = after.as_ref().map(|(user, realm)| (user.as_str(), realm.as_str()));
        control.users(after, about)
    });
    listed.await?.map(Json).map_err(|refusal| Fault::refused(USER_PLACE, refusal))
}

/// Who is meant: both are needed.
type Who = Result<Query<UserQuery>, QueryRejection>;

pub(super) async fn add(
    State(api): State<Api>,
    who: Who,
    body: Bytes,
) -> Result<impl IntoResponse, Fault> {
    change(api, who, |user, realm| Ok(UserOrder::Add(secrets(&body, user, realm)?))).await
}

pub(super) async fn replace(
    State(api): State<Api>,
    who: Who,
    body: Bytes,
) -> Result<impl IntoResponse, Fault> {
    change(api, who, |user, realm| Ok(UserOrder::Replace(secrets(&body, user, realm)?))).await
}

pub(super) async fn remove(State(api): State<Api>, who: Who) -> Result<impl IntoResponse, Fault> {
    change(api, who, |_, _| Ok(UserOrder::Remove)).await
}

/// `{}`: it is done.
#[derive(Serialize, Deserialize)]
pub(crate) struct Done {}

async fn change(
    api: Api,
    who: Who,
    order: impl FnOnce(&str, &str) -> Result<UserOrder, Fault>,
) -> Result<Json<Done>, Fault> {
    let Query(who) = who.map_err(|fault| bad_query(USER_PLACE, &fault))?;
    let bad = |place, allowed: &str| {
        let error = format!("is missing or no good; allowed: {allowed}");
        Fault::new(StatusCode::BAD_REQUEST, place, error)
    };
    let user = who.user.filter(|user| is_user_name(user)).ok_or_else(|| bad("user", NAME))?;
    let realm = who.realm.filter(|realm| is_realm(realm)).ok_or_else(|| bad("realm", REALM))?;
    let order = order(&user, &realm)?;
    let done = ask(&api, USER_PLACE, move |control| control.change_user((&user, &realm), order));
    done.await?.map_err(|refusal| Fault::refused("user", refusal))?;
    Ok(Json(Done {}))
}

/// A password, or hashes as in the file of users. No `Debug`: it does not belong in logs.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) md5: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha512_256: Option<String>,
}

fn secrets(body: &[u8], user: &str, realm: &str) -> Result<Secrets, Fault> {
    const ALLOWED: &str = "a JSON object with password, or md5, sha256, sha512_256";
    let bad = |place: &str, error: &str| {
        Fault::new(StatusCode::BAD_REQUEST, place, format!("{error}; allowed: {ALLOWED}"))
    };
    // The reader's own words may quote the secret.
    let body: SecretBody =
        serde_json::from_slice(body).map_err(|_| bad("body", "the body cannot be read"))?;
    let mut secrets = match &body.password {
        Some(password) => Secrets::of_password(user, realm, password),
        None => Secrets::default(),
    };
    for (key, algorithm, hex) in [
        ("md5", Algorithm::Md5, &body.md5),
        ("sha256", Algorithm::Sha256, &body.sha256),
        ("sha512_256", Algorithm::Sha512_256, &body.sha512_256),
    ] {
        if let Some(hex) = hex {
            let hash = Hash::from_hex(algorithm, hex);
            secrets.set(algorithm, hash.ok_or_else(|| bad(key, "is no such hash"))?);
        }
    }
    if secrets.is_empty() {
        return Err(bad("body", "neither password nor hash"));
    }
    Ok(secrets)
}
