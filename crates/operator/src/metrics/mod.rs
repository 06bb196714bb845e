//! What the operator tells of itself, in the OpenMetrics text format.
//!
//! [`Metrics`] is a handle; clones share one registry. Whatever happens is recorded where it happens; what *is* (Tasks by
//! phase, queues) is counted when somebody asks ([`state`]), so that it is never wrong and costs nothing meanwhile.
//! Names, types and meanings stand in [`words`] and nowhere else.

mod process;
pub mod state;
pub mod words;

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

pub use state::Source;
pub use words::{ALL, CONTENT_TYPE, Word};

/// The operator's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Mutex<Registry>,
    source: state::Slot,
    api_requests: Family<ApiLabels, Counter>,
    api_duration: Family<VerbLabels, Histogram, Buckets>,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_duration: Family<KindLabels, Histogram, Buckets>,
    task_queue: Histogram,
    task_start: Histogram,
    task_run: Histogram,
    tasks_finished: Family<FinishedLabels, Counter>,
    jobs_created: Counter,
    unreadable: Family<KindNameLabels, Counter>,
    leader: Gauge,
    leader_changes: Counter,
    cron_skew: Histogram,
    cron_runs: Family<ResultLabels, Counter>,
    archives: Family<ResultLabels, Counter>,
    archive_pending: Gauge,
    notifications: Family<ResultLabels, Counter>,
    notification_pending: Gauge,
    spans: Family<ResultLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabels {
    verb: &'static str,
    resource: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindNameLabels {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FinishedLabels {
    phase: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// Bounds of a histogram's buckets, in seconds.
#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

/// A request or a look: a millisecond to ten seconds.
const SHORT: Buckets = Buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
/// What people wait for: a tenth of a second to an hour.
const WAITS: Buckets = Buckets(&[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0]);
/// An agent's work: seconds to a day.
const RUNS: Buckets =
    Buckets(&[1.0, 5.0, 15.0, 60.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0]);

impl Buckets {
    fn histogram(self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        self.histogram()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let source = state::Slot::default();
        let inner = Inner {
            source: source.clone(),
            api_requests: add(&mut registry, words::API_REQUESTS, Family::default()),
            api_duration: add(&mut registry, words::API_DURATION, Family::new_with_constructor(SHORT)),
            reconciles: add(&mut registry, words::RECONCILES, Family::default()),
            reconcile_duration: add(&mut registry, words::RECONCILE_DURATION, Family::new_with_constructor(SHORT)),
            task_queue: add(&mut registry, words::TASK_QUEUE, WAITS.histogram()),
            task_start: add(&mut registry, words::TASK_START, WAITS.histogram()),
            task_run: add(&mut registry, words::TASK_RUN, RUNS.histogram()),
            tasks_finished: add(&mut registry, words::TASKS_FINISHED, Family::default()),
            jobs_created: add(&mut registry, words::JOBS_CREATED, Counter::default()),
            unreadable: add(&mut registry, words::UNREADABLE, Family::default()),
            leader: add(&mut registry, words::LEADER, Gauge::default()),
            leader_changes: add(&mut registry, words::LEADER_CHANGES, Counter::default()),
            cron_skew: add(&mut registry, words::CRON_SKEW, SHORT.histogram()),
            cron_runs: add(&mut registry, words::CRON_RUNS, Family::default()),
            archives: add(&mut registry, words::ARCHIVES, Family::default()),
            archive_pending: add(&mut registry, words::ARCHIVE_PENDING, Gauge::default()),
            notifications: add(&mut registry, words::NOTIFICATIONS, Family::default()),
            notification_pending: add(&mut registry, words::NOTIFICATION_PENDING, Gauge::default()),
            spans: add(&mut registry, words::SPANS, Family::default()),
            registry: Mutex::default(),
        };
        let build: Family<BuildLabels, Gauge> = add(&mut registry, words::BUILD_INFO, Family::default());
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register_collector(Box::new(state::Collector(source)));
        registry.register_collector(Box::new(process::Collector));
        *inner.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        Self(Arc::new(inner))
    }
}

/// Registers a metric under its word.
fn add<M: Metric + Clone>(registry: &mut Registry, word: Word, metric: M) -> M {
    // The registry adds the full stop, and to counters the suffix.
    let name = word.name.strip_suffix("_total").unwrap_or(word.name);
    registry.register(name, word.help.trim_end_matches('.'), metric.clone());
    metric
}

impl Metrics {
    /// All of them as text, in the format of [`CONTENT_TYPE`].
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if text::encode(&mut out, &registry).is_err() {
            // Writing to a String does not fail.
            let _ = writeln!(out, "# EOF");
        }
        out
    }

    /// From now on Tasks and queues are counted there.
    pub fn set_source(&self, source: Source) {
        self.0.source.set(Some(source));
    }

    /// Nothing is watched any more.
    pub fn clear_source(&self) {
        self.0.source.set(None);
    }

    /// A request to the API ended: with a status code, or without an answer.
    pub fn api_request(&self, verb: &'static str, resource: &str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        self.0.api_requests.get_or_create(&ApiLabels { verb, resource: resource.to_owned(), code }).inc();
        if verb != "watch" {
            self.0.api_duration.get_or_create(&VerbLabels { verb }).observe(took.as_secs_f64());
        }
    }

    /// A look at an object of a kind ended.
    pub fn reconciled(&self, kind: &'static str, ok: bool, took: Duration) {
        let result = if ok { "ok" } else { "error" };
        self.0.reconciles.get_or_create(&ReconcileLabels { kind, result }).inc();
        self.0.reconcile_duration.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }

    /// An object of a kind could not be read.
    pub fn unreadable(&self, kind: &str) {
        self.0.unreadable.get_or_create(&KindNameLabels { kind: kind.to_owned() }).inc();
    }

    /// A Task's Job was created so long after the Task.
    pub fn job_created(&self, after: Duration) {
        self.0.jobs_created.inc();
        self.0.task_queue.observe(after.as_secs_f64());
    }

    /// A Task's agent runs so long after the Task was created.
    pub fn task_started(&self, after: Duration) {
        self.0.task_start.observe(after.as_secs_f64());
    }

    /// A Task ended; its agent ran so long, if it did.
    pub fn task_finished(&self, phase: &'static str, reason: &str, ran: Option<Duration>) {
        self.0.tasks_finished.get_or_create(&FinishedLabels { phase, reason: reason.to_owned() }).inc();
        if let Some(ran) = ran {
            self.0.task_run.observe(ran.as_secs_f64());
        }
    }

    /// Whether this operator leads.
    pub fn set_leader(&self, leads: bool) {
        if self.0.leader.set(i64::from(leads)) != i64::from(leads) {
            self.0.leader_changes.inc();
        }
    }

    /// A CronTask's run was created so long after it was due.
    pub fn cron_skew(&self, skew: Duration) {
        self.0.cron_skew.observe(skew.as_secs_f64());
    }

    /// What became of a CronTask's due run: `created`, `skipped`, `missed` or `failed`.
    pub fn cron_run(&self, result: &'static str) {
        self.0.cron_runs.get_or_create(&ResultLabels { result }).inc();
    }

    /// A Task was written to its archive, or was not.
    pub fn archived(&self, ok: bool) {
        self.0.archives.get_or_create(&ResultLabels { result: if ok { "ok" } else { "error" } }).inc();
    }

    /// So many Tasks wait to be archived.
    pub fn set_archive_pending(&self, count: usize) {
        self.0.archive_pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A notification was delivered (`ok`), must be repeated (`error`), or was given up (`dropped`).
    pub fn notified(&self, result: &'static str) {
        self.0.notifications.get_or_create(&ResultLabels { result }).inc();
    }

    /// So many notifications wait to be delivered.
    pub fn set_notification_pending(&self, count: usize) {
        self.0.notification_pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many spans were exported (`ok`), or lost (`dropped`).
    pub fn spans(&self, result: &'static str, count: usize) {
        self.0.spans.get_or_create(&ResultLabels { result }).inc_by(u64::try_from(count).unwrap_or(0));
    }
}

/// A number that only grows, for collectors.
type Count = prometheus_client::metrics::counter::ConstCounter<f64>;
/// A number, for collectors.
type Number = prometheus_client::metrics::gauge::ConstGauge<f64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_word_and_every_word_is_told() {
        let metrics = Metrics::default();
        metrics.api_request("get", "tasks", Some(200), Duration::from_millis(3));
        metrics.reconciled("Task", true, Duration::from_millis(1));
        metrics.task_finished("Failed", "ExitCode", Some(Duration::from_secs(9)));
        metrics.unreadable("Task");
        metrics.cron_run("created");
        metrics.archived(true);
        metrics.notified("ok");
        metrics.spans("ok", 4);
        metrics.set_source(state::Source::default());
        let text = metrics.text();
        for word in ALL {
            assert!(
                text.contains(&format!("\n# HELP {} ", word.name.trim_end_matches("_total")))
                    || text.starts_with(&format!("# HELP {} ", word.name.trim_end_matches("_total"))),
                "{} is not told:\n{text}",
                word.name
            );
        }
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(ALL.iter().any(|word| word.name.trim_end_matches("_total") == name), "{name} has no word");
        }
        assert!(text.contains("kubetask_task_run_duration_seconds_count 1"), "{text}");
        assert!(text.contains("kubetask_api_requests_total{verb=\"get\",resource=\"tasks\",code=\"200\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn names_follow_the_conventions() {
        for word in ALL {
            assert!(word.name.starts_with("kubetask_") || word.name.starts_with("process_"), "{}", word.name);
            assert_eq!(word.name.ends_with("_total"), word.kind == "counter", "{}", word.name);
            if word.kind == "histogram" {
                assert!(word.name.ends_with("_seconds"), "{}", word.name);
            }
        }
    }
}
