//! Metrics in the text format of Prometheus.

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{fmt, time::Duration};

/// The labels of a metric, by name.
type Labels = Vec<(&'static str, String)>;

/// The counters and histograms of the server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Histogram,
    batches: Histogram,
    in_progress: Gauge,
}

/// Counts a prediction as in progress until it is dropped, which also happens if the client leaves.
#[derive(Debug)]
pub(crate) struct InProgress<'a>(&'a Gauge);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("finetune");
        let requests = Family::default();
        let seconds = Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let batches = Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]);
        let in_progress = Gauge::default();
        registry.register("requests", "Predictions by HTTP status", requests.clone());
        registry.register("request_seconds", "Time of a prediction", seconds.clone());
        registry.register("batch_images", "Images predicted together", batches.clone());
        registry.register(
            "predictions_in_progress",
            "Predictions in progress",
            in_progress.clone(),
        );
        Self { registry, requests, seconds, batches, in_progress }
    }

    /// Counts a prediction that is in progress.
    pub(crate) fn in_progress(&self) -> InProgress<'_> {
        self.in_progress.inc();
        InProgress(&self.in_progress)
    }

    /// Counts a request.
    pub(crate) fn request(&self, status: u16, time: Duration) {
        self.requests.get_or_create(&vec![("status", status.to_string())]).inc();
        self.seconds.observe(time.as_secs_f64());
    }

    /// Counts a batch.
    pub(crate) fn batch(&self, images: usize) {
        self.batches.observe(images as f64);
    }

    /// Returns all metrics as text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
