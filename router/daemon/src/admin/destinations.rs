//! Destinations of dispatcher sets: what is known of them, and what an operator says.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::Api;
use super::routes::{Fault, ask, bad_query};
use crate::control::DestinationState;

const PLACE: &str = "/v1/destinations";

pub(super) async fn list(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    ask(&api, PLACE, |control| control.destinations()).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateQuery {
    set: String,
    uri: String,
    state: String,
}

pub(super) async fn set_state(
    State(api): State<Api>,
    query: Result<Query<StateQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Fault> {
    let Query(StateQuery { set, uri, state }) = query.map_err(|fault| bad_query(PLACE, &fault))?;
    let state = state
        .parse::<DestinationState>()
        .map_err(|error| Fault::new(StatusCode::BAD_REQUEST, "state", error))?;
    let done = ask(&api, PLACE, move |control| control.set_destination(&set, &uri, state)).await?;
    done.map(Json).map_err(|refusal| Fault::refused("uri", refusal))
}
