//! Sources that are kept out.

use std::net::IpAddr;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};

use super::Api;
use super::routes::{Fault, ask, bad_query};
use crate::config::MOST_BAN_S;
use crate::control::BanEntry;

const PLACE: &str = "/v1/ban";

pub(super) async fn list(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    let bans = ask(&api, PLACE, |control| control.bans()).await?;
    bans.map(Json).map_err(|refusal| Fault::refused("xdp", refusal))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BanQuery {
    seconds: u64,
}

pub(super) async fn add(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<BanQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Fault> {
    let source = source_of(path)?;
    let Query(BanQuery { seconds }) = query.map_err(|fault| bad_query(PLACE, &fault))?;
    if !(1..=MOST_BAN_S).contains(&seconds) {
        let error = format!("seconds is {seconds}; allowed: 1 to {MOST_BAN_S}");
        return Err(Fault::new(StatusCode::BAD_REQUEST, "seconds", error));
    }
    let done = ask(&api, PLACE, move |control| control.ban(source, seconds)).await?;
    done.map_err(|refusal| Fault::refused("xdp", refusal))?;
    Ok(Json(BanEntry { source: source.to_string(), seconds }))
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Lifted {
    /// Was it banned?
    pub(crate) lifted: bool,
}

pub(super) async fn lift(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, Fault> {
    let source = source_of(path)?;
    let lifted = ask(&api, PLACE, move |control| control.unban(source)).await?;
    let lifted = lifted.map_err(|refusal| Fault::refused("xdp", refusal))?;
    Ok(Json(Lifted { lifted }))
}

fn source_of(path: Result<Path<String>, PathRejection>) -> Result<IpAddr, Fault> {
    let bad = |error: String| Fault::new(StatusCode::BAD_REQUEST, "source", error);
    let Path(text) = path.map_err(|fault| bad(fault.body_text()))?;
    let source = text.parse::<IpAddr>();
    source.map_err(|_| bad(format!("{text:?} is no IP address; allowed: one address")))
}
