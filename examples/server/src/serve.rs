//! Connections: accepting them, and a graceful stop.

use crate::app::App;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

/// The time during a stop for requests on connections that have none yet.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// The limits of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The maximum number of connections.
    pub(crate) connections: u32,
    /// The time limit for the headers of a request.
    pub(crate) headers: Duration,
    /// The time during a stop in which new requests are still answered.
    pub(crate) drain: Duration,
    /// The time after that for requests that have begun.
    pub(crate) grace: Duration,
}

/// Answers requests until `stop` completes, and then the requests that have begun. Returns the number of
/// connections that had not finished in time.
///
/// A stop has three steps:
/// 1. `/ready` returns 503 and every response closes its connection, so that load balancers and clients leave.
///    New requests are still answered.
/// 2. After `drain`, the listener closes. Requests that have begun are answered. Connections without a request stay open for
///    another second, since a request may be on its way.
/// 3. After `grace`, the rest is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    app: &App,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> usize {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.connections as usize));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.headers);
    let router = app.router();
    let answer = |(stream, slot): (TcpStream, OwnedSemaphorePermit)| {
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // An error here means that the client has left, or sent something other than HTTP.
            let _ = connection.await;
            drop(slot);
        });
    };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            next = accept(&listener, &slots) => answer(next),
            () = &mut stop => break,
        }
    }
    app.drain();
    let mut drained = pin!(sleep(limits.drain));
    loop {
        tokio::select! {
            next = accept(&listener, &slots) => answer(next),
            () = &mut drained => break,
        }
    }
    // Connections that the system has accepted, which it would reset.
    while let Ok(next) = timeout(Duration::ZERO, accept(&listener, &slots)).await {
        answer(next);
    }
    drop(listener);
    let ended = async {
        let all = slots.acquire_many(limits.connections);
        // The semaphore is never closed.
        let _ = timeout(ON_THE_WAY, all).await;
        graceful.shutdown().await;
    };
    match timeout(limits.grace, ended).await {
        Ok(()) => 0,
        Err(_) => limits.connections as usize - slots.available_permits(),
    }
}

/// Returns the next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            // The semaphore is never closed.
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(e) => {
                // For example, too many open files: wait for connections to end.
                report(&e);
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn report(e: &io::Error) {
    eprintln!("cannot accept a connection: {e}");
}
