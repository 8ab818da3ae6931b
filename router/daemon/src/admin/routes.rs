//! What can be asked: one function a route.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::{Api, Token, bans, destinations, media, policies, record, users};
use crate::control::{Control, Refusal};
use crate::metrics::Metrics;

/// Longest component that is taken, bytes.
pub const MOST_COMPONENT_BYTES: usize = viaduct_policy::package::MAX_BYTES;
/// AoRs of one page: default and most.
const PAGE: usize = 100;
const MOST_PAGE: usize = 1000;
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every route of the API; behind the token, where there is one.
pub(super) fn router(api: Api, token: Option<Token>) -> Router {
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/location", get(page))
        .route("/v1/location/{aor}", get(bindings).delete(remove))
        .route("/v1/auth", get(users::status).delete(users::flush))
        .route(
            "/v1/user",
            get(users::list).post(users::add).put(users::replace).delete(users::remove),
        )
        .route("/v1/policy", get(policies::list).post(policies::deploy))
        .route("/v1/policy/{what}", get(policies::parts).post(policies::change))
        .route("/v1/record", get(record::take).post(record::begin).delete(record::stop))
        .route("/v1/ban", get(bans::list))
        .route("/v1/ban/{source}", post(bans::add).delete(bans::lift))
        .route("/v1/media", get(media::list))
        .route("/v1/media/{call_id}", get(media::show).delete(media::kill))
        .route("/v1/destinations", get(destinations::list).post(destinations::set_state))
        .route("/v1/reload", post(reload))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(MOST_COMPONENT_BYTES))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api);
    match token {
        None => routes,
        Some(token) => routes.layer(middleware::from_fn_with_state(token, authenticate)),
    }
}

/// `/metrics` alone.
pub(super) fn metrics_router(metrics: Arc<Metrics>) -> Router {
    let answer = |State(metrics): State<Arc<Metrics>>| async move { render(&metrics) };
    Router::new()
        .route("/metrics", get(answer))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(metrics)
}

/// An error as JSON: `{"error": "...", "where": "..."}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// What is wrong.
    pub(crate) error: String,
    /// The path, parameter or part that is to blame.
    #[serde(rename = "where")]
    pub(crate) place: String,
    #[serde(skip)]
    status: StatusCode,
}

impl Fault {
    pub(super) fn new(status: StatusCode, place: &str, error: impl ToString) -> Fault {
        Fault { error: error.to_string(), place: place.to_owned(), status }
    }

    pub(super) fn refused(place: &str, refusal: Refusal) -> Fault {
        let status = match refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Fault::new(status, place, refusal)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

async fn authenticate(State(token): State<Token>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    if token.admits(given) {
        return next.run(request).await;
    }
    let fault = Fault::new(StatusCode::UNAUTHORIZED, "Authorization", "wrong or no bearer token");
    let mut response = fault.into_response();
    let scheme = header::HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

async fn unknown(uri: Uri) -> Fault {
    Fault::new(StatusCode::NOT_FOUND, uri.path(), "no such resource")
}

async fn wrong_method(uri: Uri) -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, uri.path(), "no such method here")
}

/// Runs on a blocking thread: what is asked of the router may wait for a disk.
pub(super) async fn ask<T: Send + 'static>(
    api: &Api,
    place: &'static str,
    work: impl FnOnce(&dyn Control) -> T + Send + 'static,
) -> Result<T, Fault> {
    let control = api.control.clone();
    let joined = tokio::task::spawn_blocking(move || work(&*control)).await;
    joined.map_err(|_| {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, place, "the order ended by a panic")
    })
}

async fn status(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    ask(&api, "/v1/status", |control| control.status()).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    table: Option<String>,
    cursor: Option<usize>,
    about: Option<usize>,
}

fn table_or_default(table: Option<String>) -> String {
    table.unwrap_or_else(|| "location".to_owned())
}

async fn page(
    State(api): State<Api>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Fault> {
    const PLACE: &str = "/v1/location";
    let Query(query) = query.map_err(|fault| bad_query(PLACE, &fault))?;
    let about = query.about.unwrap_or(PAGE);
    if !(1..=MOST_PAGE).contains(&about) {
        let error = format!("about is {about}; allowed: 1 to {MOST_PAGE}");
        return Err(Fault::new(StatusCode::BAD_REQUEST, "about", error));
    }
    let table = table_or_default(query.table);
    let cursor = query.cursor.unwrap_or(0);
    ask(&api, PLACE, move |control| control.page(&table, cursor, about)).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AorQuery {
    table: Option<String>,
    contact: Option<String>,
}

pub(super) fn bad_query(place: &str, fault: &QueryRejection) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, place, fault.body_text())
}

/// The AoR of the path; a scheme in front is dropped.
fn aor_of(path: Result<Path<String>, PathRejection>) -> Result<String, Fault> {
    let bad = |error: String| Fault::new(StatusCode::BAD_REQUEST, "aor", error);
    let Path(aor) = path.map_err(|fault| bad(fault.body_text()))?;
    let aor = aor.strip_prefix("sip:").or(aor.strip_prefix("sips:")).unwrap_or(&aor);
    match aor.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() => Ok(aor.to_owned()),
        _ => Err(bad(format!("{aor:?} is no AoR; allowed: user@host"))),
    }
}

async fn bindings(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<AorQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Fault> {
    const PLACE: &str = "/v1/location";
    let aor = aor_of(path)?;
    let Query(query) = query.map_err(|fault| bad_query(PLACE, &fault))?;
    let table = table_or_default(query.table);
    let asked = aor.clone();
    let found = ask(&api, PLACE, move |control| control.bindings(&table, &asked)).await?;
    let absent = || Fault::new(StatusCode::NOT_FOUND, "aor", format!("{aor} has no bindings"));
    found.map(Json).ok_or_else(absent)
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Removed {
    pub(crate) removed: usize,
}

async fn remove(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<AorQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Fault> {
    const PLACE: &str = "/v1/location";
    let aor = aor_of(path)?;
    let Query(query) = query.map_err(|fault| bad_query(PLACE, &fault))?;
    let table = table_or_default(query.table);
    let contact = query.contact;
    let result =
        ask(&api, PLACE, move |control| control.remove(&table, &aor, contact.as_deref())).await?;
    let removed = result.map_err(|refusal| Fault::refused("aor", refusal))?;
    Ok(Json(Removed { removed }))
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// Keys whose new value waits for a restart.
    pub(crate) needs_restart: Vec<String>,
}

async fn reload(State(api): State<Api>) -> Result<impl IntoResponse, Fault> {
    const PLACE: &str = "/v1/reload";
    let again = api.reload.clone();
    let result = ask(&api, PLACE, move |_| again()).await?;
    let keys = result.map_err(|refusal| Fault::refused(PLACE, refusal))?;
    Ok(Json(Reloaded { needs_restart: keys.into_iter().map(str::to_owned).collect() }))
}

async fn metrics(State(api): State<Api>) -> Response {
    render(&api.metrics)
}

fn render(metrics: &Arc<Metrics>) -> Response {
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(fault) => {
            Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "/metrics", fault).into_response()
        }
    }
}
