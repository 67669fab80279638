//! Connections: accepted up to a limit, encrypted where configured, served under time-outs, and drained at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::Peer;

/// Most connections at a time, of TCP and of the Unix socket each.
const CONNECTIONS: usize = 256;

/// How long a client may take for its TLS handshake, for the head of a request, and between two requests.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may leave data unread, and the network unacknowledged.
const UNREAD_LIMIT_MS: u32 = 30_000;

/// Space for the head of a request, and for reading ahead.
const BUFFER: usize = 64 * 1024;

/// What all connections share.
#[derive(Clone)]
pub struct Connections {
    router: Router,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    free: Arc<Semaphore>,
    head_limit: Duration,
}

impl Connections {
    /// Connections that are served by a router until the token says otherwise.
    pub fn new(router: Router, shutdown: CancellationToken, tasks: TaskTracker) -> Self {
        Self {
            router,
            shutdown,
            tasks,
            free: Arc::new(Semaphore::new(CONNECTIONS)),
            head_limit: HEAD_LIMIT,
        }
    }

    /// Another limit, so that a test need not wait for it.
    #[cfg(test)]
    pub fn head_limit(mut self, limit: Duration) -> Self {
        self.head_limit = limit;
        self
    }

    /// Accepts connections of the Unix socket.
    pub async fn serve_unix(self, listener: UnixListener) {
        self.accept(listener, |this, stream, _| this.http(stream, None))
            .await;
    }

    /// Accepts connections of TCP.
    pub async fn serve_tcp(self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        self.accept(listener, |this, stream, peer| {
            this.tcp(stream, peer, tls.clone())
        })
        .await;
    }

    /// Accepts while there is room; the rest waits in the system's queue.
    async fn accept<L, F>(&self, mut listener: L, serve: impl Fn(Self, L::Io, L::Addr) -> F)
    where
        L: Listener,
        F: Future<Output = ()> + Send + 'static,
    {
        let accepting = async {
            // The semaphore is never closed.
            while let Ok(place) = Arc::clone(&self.free).acquire_owned().await {
                // It logs and tries again what fails.
                let (stream, peer) = listener.accept().await;
                let serving = serve(self.clone(), stream, peer);
                self.tasks.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    async fn tcp(self, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
        // Both only make it better; without them it works.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD_LIMIT_MS);
        let Some(tls) = tls else {
            return self.http(stream, Some(peer)).await;
        };
        match timeout(self.head_limit, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream, Some(peer)).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS with a client of the API"),
            Err(_) => tracing::debug!(%peer, "a client of the API took too long for TLS"),
        }
    }

    async fn http<S>(self, stream: S, peer: Option<SocketAddr>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = TowerToHyperService::new(self.router);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(Peer(peer));
            }
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_limit)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the API broke off");
        }
    }
}
