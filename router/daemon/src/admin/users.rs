//! Users: where they come from, and what is cached of them.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};

use super::Api;
use super::routes::{Fault, ask, bad_query};

const PLACE: &str = "/v1/auth";

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
