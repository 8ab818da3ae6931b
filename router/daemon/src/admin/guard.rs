//! A listener that cannot eat the router's file descriptors: few connections, each for a short
//! time. The SIP sockets live in the same process, so an open scrape port must not be a way to
//! starve them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use crate::metrics::Metrics;

/// Connections at a time.
const MOST_CONNECTIONS: usize = 32;
/// Life of a connection; a deployment of 16 MiB over loopback takes far less.
const LIFE: Duration = Duration::from_secs(60);

/// A guarded TCP listener.
pub(super) struct Guarded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl Guarded {
    /// `metrics` tells how many connections there are.
    pub(super) fn new(listener: TcpListener, metrics: &Metrics) -> Guarded {
        let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let watched = Arc::clone(&slots);
        metrics.watch_guests(move || MOST_CONNECTIONS.saturating_sub(watched.available_permits()));
        Guarded { listener, slots }
    }
}

impl Listener for Guarded {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        loop {
            // The semaphore is never closed; were it, waiting for ever is the safe side.
            let Ok(slot) = self.slots.clone().acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let life = Box::pin(sleep(LIFE));
                    return (Guest { stream, life, _slot: slot }, peer);
                }
                Err(fault) => {
                    tracing::warn!(%fault, "admin connection not accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection.
pub(super) struct Guest {
    stream: TcpStream,
    life: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl Guest {
    fn overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.life.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.overdue(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.overdue(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
