//! Recording runs of policies.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::Api;
use super::routes::{Fault, ask};
use crate::control::RecordRequest;

const PLACE: &str = "/v1/record";

pub(super) async fn begin(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Fault> {
    let body = body.map_err(|fault| Fault::new(fault.status(), PLACE, fault.body_text()))?;
    let request: RecordRequest = serde_json::from_slice(&body)
        .map_err(|fault| Fault::new(StatusCode::BAD_REQUEST, PLACE, fault))?;
    let result = ask(&api, PLACE, move |control| control.record(&request)).await?;
    result.map(Json).map_err(|refusal| Fault::refused(PLACE, refusal))
}

pub(super) async fn take(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    part(&api, false).await
}

pub(super) async fn stop(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    part(&api, true).await
}

async fn part(api: &Api, stop: bool) -> Result<impl IntoResponse + use<>, Fault> {
    let result = ask(api, PLACE, move |control| control.take_record(stop)).await?;
    result.map(Json).map_err(|refusal| Fault::refused(PLACE, refusal))
}
