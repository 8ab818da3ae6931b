//! Calls whose media are relayed.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};

use super::Api;
use super::routes::{Fault, ask};

const PLACE: &str = "/v1/media";

pub(super) async fn list(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    let calls = ask(&api, PLACE, |control| control.media_calls()).await?;
    calls.map(Json).map_err(|refusal| Fault::refused("media", refusal))
}

pub(super) async fn show(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, Fault> {
    let call_id = call_id_of(path)?;
    let calls = ask(&api, PLACE, move |control| control.media_call(&call_id)).await?;
    calls.map(Json).map_err(|refusal| Fault::refused("call_id", refusal))
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Killed {
    /// Calls whose media were ended.
    pub(crate) killed: usize,
}

pub(super) async fn kill(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, Fault> {
    let call_id = call_id_of(path)?;
    let killed = ask(&api, PLACE, move |control| control.kill_media(&call_id)).await?;
    let killed = killed.map_err(|refusal| Fault::refused("call_id", refusal))?;
    Ok(Json(Killed { killed }))
}

fn call_id_of(path: Result<Path<String>, PathRejection>) -> Result<String, Fault> {
    let bad = |error: String| Fault::new(StatusCode::BAD_REQUEST, "call_id", error);
    path.map(|Path(call_id)| call_id).map_err(|fault| bad(fault.body_text()))
}
