//! An HTTP server that predicts with an exported ONNX file.
//!
//! ```text
//! finetune-server pets.onnx --listen 0.0.0.0:8080
//! curl --data-binary @cat.jpg 'http://localhost:8080/predict?top_k=3'
//! ```
//!
//! | request | response |
//! |---|---|
//! | `POST /predict?top_k=K` with the bytes of an image file | the prediction as JSON |
//! | `GET /health` | 200 while the process works |
//! | `GET /ready` | 200 while it accepts requests, 503 once it stops or can no longer predict |
//! | `GET /metrics` | metrics in the text format of Prometheus |
//!
//! Errors are JSON too: `{"error": {"code": "too_large", "message": "…"}}`.

#![allow(clippy::print_stdout, reason = "a program prints its address")]

mod app;
mod batches;
#[cfg(test)]
#[path = "../../../crates/predict/tests/common/mod.rs"]
mod common;
mod metrics;
mod serve;

use app::App;
use clap::Parser as _;
use finetune_predict::{Error, Predictor, Result};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Predicts with an exported ONNX file over HTTP.
#[derive(Debug, Clone, clap::Parser)]
struct Options {
    /// The file that `Learner::export_onnx` wrote.
    model: PathBuf,
    /// The address and port. Port 0 selects a free port, which is printed.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The maximum size of an upload in bytes.
    #[arg(long, default_value_t = 20_000_000)]
    max_bytes: usize,
    /// The maximum size of an image in pixels.
    #[arg(long, default_value_t = 50_000_000)]
    max_pixels: u64,
    /// The maximum number of concurrent uploads; further ones are answered with status 503.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_requests: u32,
    /// The maximum number of connections; further ones wait.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// The maximum number of images that are predicted together.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// The milliseconds that a request waits for others, to be predicted together with them.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(..=60_000))]
    batch_wait: u64,
    /// The time limit from the start of an upload to its answer, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    timeout: Duration,
    /// The seconds during a stop in which new requests are still answered, while `/ready` returns 503.
    #[arg(long, default_value = "1", value_parser = seconds)]
    drain: Duration,
    /// The seconds after that for requests that have begun.
    #[arg(long, default_value = "30", value_parser = seconds)]
    grace: Duration,
}

/// The maximum number of seconds of an option: a day.
const DAY: f64 = 86_400.0;

/// Parses a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let value = text.parse::<f64>().ok().filter(|value| (0.0..=DAY).contains(value));
    value.map(Duration::from_secs_f64).ok_or_else(|| format!("it must be 0 to {DAY} seconds"))
}

async fn run(options: Options) -> Result<usize> {
    let limits = serve::Limits {
        connections: options.max_connections,
        headers: options.timeout,
        drain: options.drain,
        grace: options.grace,
    };
    let predictor = Predictor::load(&options.model)?.max_pixels(options.max_pixels)?;
    let app = App::new(predictor, &options);
    let address = options.listen.to_string();
    let listener = TcpListener::bind(options.listen).await.map_err(Error::io(&address))?;
    let local = listener.local_addr().map_err(Error::io(&address))?;
    let mut stop = signal(SignalKind::terminate()).map_err(Error::io("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("SIGINT"))?;
    println!("listening on http://{local}");
    let stopped = async {
        tokio::select! {
            _ = stop.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let unfinished = serve::serve(listener, &app, limits, stopped).await;
    app.join();
    Ok(unfinished)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Error::io("tokio")).and_then(|r| r.block_on(run(options)));
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(connections) => {
            eprintln!("stopped with {connections} connections that had not finished");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
