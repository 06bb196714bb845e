//! `/metrics`: what happened, in the text format of Prometheus, under the names of the real server.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{Method, StatusCode};

use crate::server::Inner;

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OTHER"];
const CLASSES: [u16; 5] = [100, 200, 300, 400, 500];
/// Upper bounds in microseconds.
const BOUNDS: [u64; 8] = [500, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];

/// Counters; cheap enough to be always on.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Metrics {
    /// Counts an answered request.
    pub(crate) fn observe(&self, method: &Method, code: StatusCode, took: Duration) {
        let row = METHODS.iter().position(|m| *m == method.as_str()).unwrap_or(METHODS.len() - 1);
        let class = usize::from(code.as_u16() / 100).saturating_sub(1).min(CLASSES.len() - 1);
        self.requests[row][class].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BOUNDS.iter().position(|bound| micros <= *bound) {
            self.buckets[at].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }

    /// The text form.
    pub(crate) fn render(&self, server: &Inner) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP apiserver_request_total Requests by method and class of the answer.");
        let _ = writeln!(out, "# TYPE apiserver_request_total counter");
        for (row, method) in METHODS.iter().enumerate() {
            for (class, code) in CLASSES.iter().enumerate() {
                let count = self.requests[row][class].load(Relaxed);
                if count > 0 {
                    let _ = writeln!(out, "apiserver_request_total{{verb=\"{method}\",code=\"{code}\"}} {count}");
                }
            }
        }
        let _ = writeln!(out, "# HELP apiserver_request_duration_seconds Time until the answer begins.");
        let _ = writeln!(out, "# TYPE apiserver_request_duration_seconds histogram");
        let mut total = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            total += bucket.load(Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
            let seconds = *bound as f64 / 1e6;
            let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{le=\"{seconds}\"}} {total}");
        }
        let count = self.count.load(Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds for people")]
        let seconds = self.micros.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "apiserver_request_duration_seconds_sum {seconds}");
        let _ = writeln!(out, "apiserver_request_duration_seconds_count {count}");
        let _ = writeln!(out, "# HELP apiserver_storage_objects Stored objects by resource.");
        let _ = writeln!(out, "# TYPE apiserver_storage_objects gauge");
        for bucket in server.store.buckets() {
            let count = server.store.count(&bucket);
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{bucket}\"}} {count}");
        }
        let _ = writeln!(out, "# HELP apiserver_storage_revision The latest resourceVersion.");
        let _ = writeln!(out, "# TYPE apiserver_storage_revision counter");
        let _ = writeln!(out, "apiserver_storage_revision {}", server.store.revision());
        out
    }
}
