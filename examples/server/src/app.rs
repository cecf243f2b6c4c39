//! Requests and responses.

use crate::{
    Options,
    batches::{Batches, Refused, Together},
    metrics::Metrics,
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use finetune_predict::{Error, Prediction, Predictor, Target, Task};
use serde_json::{Value, json};
use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout_at};

/// The state that requests share.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    task: Task,
    batches: Batches,
    metrics: Arc<Metrics>,
    /// One permit per concurrent upload, which bounds the memory.
    slots: Semaphore,
    max_bytes: usize,
    timeout: Duration,
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(predictor: Predictor, options: &Options) -> Self {
        let metrics = Arc::new(Metrics::new());
        let task = predictor.task().clone();
        let how = Together {
            most: options.batch as usize,
            wait: Duration::from_millis(options.batch_wait),
            queue: options.max_requests as usize,
        };
        Self(Arc::new(Shared {
            task,
            batches: Batches::start(predictor, how, metrics.clone()),
            metrics,
            slots: Semaphore::new(options.max_requests as usize),
            max_bytes: options.max_bytes,
            timeout: options.timeout,
            draining: AtomicBool::new(false),
        }))
    }

    /// Makes `/ready` return 503, and every response close its connection.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Ends the prediction thread.
    pub(crate) fn join(&self) {
        self.0.batches.join();
    }

    pub(crate) fn router(&self) -> Router {
        let measured = middleware::from_fn_with_state(self.clone(), measured);
        let leaving = middleware::from_fn_with_state(self.clone(), leaving);
        Router::new()
            .route("/predict", post(predict).layer(measured))
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .method_not_allowed_fallback(async || {
                failure(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    "see the `allow` header",
                )
            })
            .fallback(async || {
                let routes = "the paths are /predict, /health, /ready and /metrics";
                failure(StatusCode::NOT_FOUND, "not_found", routes)
            })
            .layer(leaving)
            .with_state(self.clone())
    }
}

/// Returns an error as JSON.
fn failure(status: StatusCode, code: &str, message: impl Into<String>) -> Response {
    let error = json!({ "error": { "code": code, "message": message.into() } });
    let mut response = (status, Json(error)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn busy() -> Response {
    failure(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many concurrent requests")
}

fn ended() -> Response {
    let why = "the prediction thread has ended: restart the server";
    failure(StatusCode::SERVICE_UNAVAILABLE, "ended", why)
}

/// Counts requests and measures their time.
async fn measured(State(app): State<App>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let response = next.run(request).await;
    app.0.metrics.request(response.status().as_u16(), start.elapsed());
    response
}

/// Closes connections during a stop.
async fn leaving(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if app.0.draining.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn health(State(app): State<App>) -> Response {
    match app.0.batches.alive() {
        true => Json(json!({ "status": "ok" })).into_response(),
        false => {
            let why = "the prediction thread has ended";
            failure(StatusCode::INTERNAL_SERVER_ERROR, "unhealthy", why)
        }
    }
}

async fn ready(State(app): State<App>) -> Response {
    if app.0.draining.load(Ordering::Relaxed) {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping");
    }
    match app.0.batches.alive() {
        true => Json(json!({ "status": "ready" })).into_response(),
        false => ended(),
    }
}

async fn metrics(State(app): State<App>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match app.0.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, kind)], text).into_response(),
        Err(e) => failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string()),
    }
}

/// The options of a prediction.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    /// The number of categories in the answer. Default: 5.
    #[serde(default = "five")]
    top_k: usize,
}

fn five() -> usize {
    5
}

async fn predict(State(app): State<App>, request: Request) -> Response {
    let shared = &app.0;
    let end = tokio::time::Instant::now() + shared.timeout;
    let how = match Query::<How>::try_from_uri(request.uri()) {
        Ok(Query(how)) => how,
        Err(e) => return failure(StatusCode::BAD_REQUEST, "invalid_query", e.body_text()),
    };
    if let Some(refused) = rejection(&request, shared.max_bytes) {
        return refused;
    }
    let Ok(_slot) = shared.slots.try_acquire() else { return busy() };
    let _counted = shared.metrics.in_progress();
    let body = timeout_at(end, axum::body::to_bytes(request.into_body(), shared.max_bytes));
    let bytes = match body.await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(e)) if e.source().is_some_and(|e| e.is::<http_body_util::LengthLimitError>()) => {
            return too_large(shared.max_bytes);
        }
        Ok(Err(e)) => return failure(StatusCode::BAD_REQUEST, "broken_upload", e.to_string()),
        Err(_) => {
            let why = format!("the upload took more than {:?}", shared.timeout);
            return failure(StatusCode::REQUEST_TIMEOUT, "timeout", why);
        }
    };
    let answer = match shared.batches.push(Vec::from(bytes).into()) {
        Ok(answer) => answer,
        Err(Refused::Full) => return busy(),
        Err(Refused::Ended) => return ended(),
    };
    match timeout_at(end, answer).await {
        Ok(Ok(Ok(prediction))) => {
            Json(to_json(&shared.task, &prediction, how.top_k)).into_response()
        }
        Ok(Ok(Err(
            e @ (Error::Image { .. } | Error::Mismatch { .. } | Error::Transform { .. }),
        ))) => failure(StatusCode::BAD_REQUEST, "invalid_image", e.to_string()),
        Ok(Ok(Err(e))) => {
            eprintln!("{e}");
            let why = "the prediction failed; the log of the server has the cause";
            failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", why)
        }
        Ok(Err(_)) => ended(),
        Err(_) => {
            let why = format!("the prediction took more than {:?}", shared.timeout);
            failure(StatusCode::SERVICE_UNAVAILABLE, "timeout", why)
        }
    }
}

/// Returns an error if the headers alone are a reason to reject the request.
fn rejection(request: &Request<Body>, max_bytes: usize) -> Option<Response> {
    let header =
        |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if header(CONTENT_LENGTH).and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n > max_bytes) {
        return Some(too_large(max_bytes));
    }
    let multipart = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("multipart/"));
    multipart.then(|| {
        let why = "the body must be the bytes of an image file, not a form: use `curl --data-binary @FILE`";
        failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, "form", why)
    })
}

fn too_large(max_bytes: usize) -> Response {
    let why = format!("an upload must have at most {max_bytes} bytes");
    failure(StatusCode::PAYLOAD_TOO_LARGE, "too_large", why)
}

/// Returns a prediction as JSON.
fn to_json(task: &Task, prediction: &Prediction, top_k: usize) -> Value {
    let top = || -> Value {
        let one = |(label, p): (String, f32)| json!({ "label": label, "probability": p });
        prediction.top_k(top_k).into_iter().map(one).collect()
    };
    let label = &prediction.label;
    match &prediction.target {
        Target::Values(values) => json!({ "values": values }),
        Target::Points(points) => {
            let one = |p: &finetune_predict::Point| p.visible.then(|| json!([p.x, p.y]));
            json!({ "points": points.iter().map(one).collect::<Vec<_>>() })
        }
        Target::Categories(all) => {
            let labels: Vec<_> = all.iter().filter_map(|i| task.vocab().get(*i)).collect();
            json!({ "label": label, "labels": labels, "top": top() })
        }
        Target::Mask(mask) => {
            let mut counts = vec![0_usize; task.vocab().len()];
            for code in mask.pixels() {
                if let Some(n) = counts.get_mut(usize::from(*code)) {
                    *n += 1;
                }
            }
            let share = |n: usize| n as f64 / mask.pixels().len().max(1) as f64;
            let one = |(label, n): (&String, usize)| json!({ "label": label, "share": share(n) });
            let codes: Value = task.vocab().iter().zip(counts).map(one).collect();
            json!({ "label": label, "codes": codes })
        }
        _ => json!({ "label": label, "top": top() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Model, plain, pnm};
    use clap::Parser as _;

    async fn answer(response: Response) -> (u16, Value) {
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_server_without_its_prediction_thread_says_so() {
        let predictor = Predictor::from_bytes(&Model::colors().bytes()).unwrap();
        let app = App::new(predictor, &Options::parse_from(["finetune-server", "colors.onnx"]));
        let upload = || Request::new(Body::from(pnm(&plain([255, 0, 0], 9, 9))));
        let (status, said) = answer(predict(State(app.clone()), upload()).await).await;
        assert_eq!((status, &said["label"]), (200, &"red".into()));
        assert_eq!(ready(State(app.clone())).await.status(), StatusCode::OK);
        app.join();
        for response in [ready(State(app.clone())).await, predict(State(app), upload()).await] {
            let (status, said) = answer(response).await;
            assert_eq!((status, &said["error"]["code"]), (503, &"ended".into()));
        }
    }
}
