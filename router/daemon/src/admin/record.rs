//! Recording runs of policies.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::IntoResponse;

use super::Api;
use super::routes::{Fault, ask};
use crate::control::RecordRequest;

const PLACE: &str = "/v1/record";

pub(super) async fn begin(
    State(api): State<Api>,
    body: Result<Json<RecordRequest>, JsonRejection>,
) -> Result<impl IntoResponse, Fault> {
    let Json(request) =
        body.map_err(|fault| Fault::new(fault.status(), PLACE, fault.body_text()))?;
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
