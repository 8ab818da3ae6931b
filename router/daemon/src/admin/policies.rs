//! Policies: list, parts, and the orders that change what is live.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use viaduct_policy::Scope;

use super::Api;
use super::routes::{Fault, MOST_COMPONENT_BYTES, ask, bad_query};
use crate::control::{PolicyEntry, PolicyOrder};

const PLACE: &str = "/v1/policy";

pub(super) async fn list(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    ask(&api, PLACE, |control| control.policies()).await.map(Json)
}

/// `GET /v1/policy/{serial}`
pub(super) async fn parts(
    State(api): State<Api>,
    Path(what): Path<String>,
) -> Result<impl IntoResponse, Fault> {
    let serial = what.parse().map_err(|_| unknown(&what))?;
    let result = ask(&api, PLACE, move |control| control.policy_parts(serial)).await?;
    result.map(Json).map_err(|refusal| Fault::refused("serial", refusal))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderQuery {
    scope: Option<String>,
    serial: Option<u64>,
    /// Thousandths.
    share: Option<u16>,
}

impl OrderQuery {
    fn scope(&self) -> Result<Scope, Fault> {
        let parsed = self.scope.as_deref().unwrap_or("all").parse();
        parsed.map_err(|fault| Fault::new(StatusCode::BAD_REQUEST, "scope", fault))
    }

    fn missing(key: &'static str) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, key, "is missing")
    }
}

/// `POST /v1/policy[?scope=..]`: deploy.
pub(super) async fn deploy(
    state: State<Api>,
    query: Result<Query<OrderQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<PolicyEntry>, Fault> {
    change(state, Path("deploy".to_owned()), query, body).await
}

/// `POST /v1/policy/{order}`: every change there is.
pub(super) async fn change(
    State(api): State<Api>,
    Path(what): Path<String>,
    query: Result<Query<OrderQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<PolicyEntry>, Fault> {
    let Query(query) = query.map_err(|fault| bad_query(PLACE, &fault))?;
    let bytes: Vec<u8> = match body {
        Ok(bytes) => bytes.into(),
        Err(fault) if fault.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            ask(&api, PLACE, |control| control.policy_too_large()).await?;
            let error = format!("longer than {MOST_COMPONENT_BYTES} bytes");
            return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, PLACE, error));
        }
        Err(fault) => return Err(Fault::new(fault.status(), PLACE, fault.body_text())),
    };
    let scope = query.scope()?;
    let order = match &*what {
        "deploy" => PolicyOrder::Deploy(bytes, scope),
        "rollback" => PolicyOrder::Rollback(scope),
        "activate" => {
            let serial = query.serial.ok_or_else(|| OrderQuery::missing("serial"))?;
            PolicyOrder::Activate(serial, scope)
        }
        "pin" => PolicyOrder::Pin(scope, true),
        "unpin" => PolicyOrder::Pin(scope, false),
        "withdraw" => PolicyOrder::Withdraw(scope),
        "canary" => {
            let share = query.share.ok_or_else(|| OrderQuery::missing("share"))?;
            PolicyOrder::Canary(bytes, share)
        }
        "promote" => PolicyOrder::Promote,
        "stop-canary" => PolicyOrder::StopCanary,
        "shadow" => PolicyOrder::Shadow(bytes),
        "stop-shadow" => PolicyOrder::StopShadow,
        _ => return Err(unknown(&what)),
    };
    let result = ask(&api, PLACE, move |control| control.change_policy(order)).await?;
    let place = format!("{PLACE}/{what}");
    let place = if what == "deploy" { PLACE } else { &place };
    result.map(Json).map_err(|refusal| Fault::refused(place, refusal))
}

fn unknown(what: &str) -> Fault {
    let what: String = what.chars().take(64).collect();
    Fault::new(StatusCode::NOT_FOUND, &format!("{PLACE}/{what}"), "no such resource")
}
