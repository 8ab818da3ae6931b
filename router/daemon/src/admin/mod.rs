//! The admin API: HTTP over a Unix socket or loopback, JSON in and out.
//!
//! It runs on a thread of its own with its own tokio runtime, so that nothing asked here can hold
//! up a worker; what may block runs on that runtime's blocking threads. Start reading at
//! [`routes::router`].

mod auth;
mod bans;
mod destinations;
mod guard;
mod media;
mod policies;
mod record;
mod routes;
mod socket;
#[cfg(test)]
mod tests;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use crate::config::{AdminAddr, AdminConfig};
use crate::control::{Control, Refusal};
use crate::metrics::Metrics;

pub use auth::{Token, TokenError};
pub(crate) use bans::Lifted;
pub(crate) use media::Killed;
pub use routes::MOST_COMPONENT_BYTES;
pub(crate) use routes::{Fault, Reloaded, Removed};
pub(crate) use users::{Done, Flushed, SecretBody};

/// What the API serves.
#[derive(Clone)]
pub struct Api {
    /// The router.
    pub control: Arc<dyn Control>,
    /// Its numbers.
    pub metrics: Arc<Metrics>,
    /// Reads the configuration again and hands it to the router; returns the keys that need a
    /// restart.
    pub reload: Arc<dyn Fn() -> Result<Vec<&'static str>, Refusal> + Send + Sync>,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The socket cannot be had.
    #[error("admin API on {place}: {source}")]
    Bind {
        /// Where.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another router serves there.
    #[error("admin API on {0}: another router is listening there")]
    InUse(String),
    /// The token file is no good.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A bound admin socket.
pub enum Bound {
    /// With the token, where one is configured.
    Unix(UnixListener, Option<Token>),
    /// Never without a token.
    Tcp(TcpListener, Token),
}

/// Binds what `[admin]` names. Needs a tokio runtime around it.
pub async fn bind(config: &AdminConfig) -> Result<Bound, AdminError> {
    let token = config.token_file.as_deref().map(Token::load).transpose()?;
    match (&config.listen, token) {
        (AdminAddr::Unix(path), token) => Ok(Bound::Unix(socket::bind(path)?, token)),
        (AdminAddr::Tcp(addr), Some(token)) => Ok(Bound::Tcp(bind_tcp(*addr).await?, token)),
        (AdminAddr::Tcp(_), None) => Err(TokenError::Missing.into()),
    }
}

/// Binds a TCP address, for the API or for metrics.
pub async fn bind_tcp(addr: SocketAddr) -> Result<TcpListener, AdminError> {
    let bind = |source| AdminError::Bind { place: addr.to_string(), source };
    TcpListener::bind(addr).await.map_err(bind)
}

/// Serves the API until the task is dropped.
pub async fn serve(bound: Bound, api: Api) -> std::io::Result<()> {
    match bound {
        Bound::Unix(listener, token) => axum::serve(listener, routes::router(api, token)).await,
        Bound::Tcp(listener, token) => {
            let listener = guard::Guarded::new(listener, &api.metrics);
            axum::serve(listener, routes::router(api, Some(token))).await
        }
    }
}

/// Serves `/metrics` alone until the task is dropped.
pub async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>) -> std::io::Result<()> {
    let guarded = guard::Guarded::new(listener, &metrics);
    axum::serve(guarded, routes::metrics_router(metrics)).await
}
