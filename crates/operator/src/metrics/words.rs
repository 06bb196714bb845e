//! The names of the metrics, with what they mean: the documentation lists them from here.

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A metric's name and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its name.
    pub name: &'static str,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Its labels.
    pub labels: &'static str,
    /// What it tells.
    pub help: &'static str,
}

macro_rules! words {
    ($($name:ident = $word:literal, $kind:literal, $labels:literal, $help:literal;)+) => {
        $(pub(super) const $name: Word = Word { name: $word, kind: $kind, labels: $labels, help: $help };)+
        /// All metrics.
        pub const ALL: &[Word] = &[$($name),+];
    };
}

words! {
    TASKS = "kubetask_tasks", "gauge", "phase, reason", "Tasks there are, by phase and by the reason in their status.";
    AGENT_ACTIVE = "kubetask_agent_active_tasks", "gauge", "namespace, agent", "Tasks that have a place at their Agent and have not ended.";
    AGENT_QUEUED = "kubetask_agent_queued_tasks", "gauge", "namespace, agent", "Tasks that wait for a place at their Agent.";
    JOBS_CREATED = "kubetask_jobs_created_total", "counter", "", "Jobs created for Tasks.";
    TASKS_FINISHED = "kubetask_tasks_finished_total", "counter", "phase, reason", "Tasks that ended, by how.";
    TASK_QUEUE = "kubetask_task_queue_duration_seconds", "histogram", "", "From a Task's creation to its Job's: what it waited for Agents, contexts and places.";
    TASK_START = "kubetask_task_start_duration_seconds", "histogram", "", "From a Task's creation until its agent runs.";
    TASK_RUN = "kubetask_task_run_duration_seconds", "histogram", "", "How long agents ran.";
    RECONCILES = "kubetask_reconciles_total", "counter", "kind, result", "Looks at objects; those with result error are repeated.";
    RECONCILE_DURATION = "kubetask_reconcile_duration_seconds", "histogram", "kind", "How long looks took.";
    API_REQUESTS = "kubetask_api_requests_total", "counter", "verb, resource, code", "Requests to the Kubernetes API; code none is one without an answer.";
    API_DURATION = "kubetask_api_request_duration_seconds", "histogram", "verb", "How long requests to the Kubernetes API took until their answer began, without watches.";
    UNREADABLE = "kubetask_unreadable_objects_total", "counter", "kind", "Objects that came from the Kubernetes API and could not be read, and are passed over; the log names them.";
    LEADER = "kubetask_leader", "gauge", "", "1 where this replica leads.";
    LEADER_CHANGES = "kubetask_leader_changes_total", "counter", "", "How often this replica began or ceased to lead.";
    CRON_SKEW = "kubetask_cron_skew_seconds", "histogram", "", "How long after its due time a CronTask's run was created.";
    CRON_RUNS = "kubetask_cron_runs_total", "counter", "result", "Due runs of CronTasks: created, skipped, missed or failed.";
    ARCHIVES = "kubetask_archives_total", "counter", "result", "Tasks written to their archive, and attempts that failed.";
    ARCHIVE_PENDING = "kubetask_archive_pending", "gauge", "", "Finished Tasks that wait to be archived.";
    NOTIFICATIONS = "kubetask_notifications_total", "counter", "result", "Calls of webhooks: ok, error (is repeated) or dropped (given up).";
    NOTIFICATION_PENDING = "kubetask_notifications_pending", "gauge", "", "Notifications that wait to be delivered.";
    SPANS = "kubetask_spans_total", "counter", "result", "Spans of traces: ok (exported) or dropped.";
    BUILD_INFO = "kubetask_build_info", "gauge", "version", "1, with the version.";
    PROCESS_RSS = "process_resident_memory_bytes", "gauge", "", "Resident memory.";
    PROCESS_CPU = "process_cpu_seconds_total", "counter", "", "User and system CPU time.";
    PROCESS_FDS = "process_open_fds", "gauge", "", "Open file descriptors.";
    PROCESS_START = "process_start_time_seconds", "gauge", "", "When the process started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation, from the words.
    fn document() -> String {
        let mut text = String::from(
            "# Metrics\n\n<!-- Generated from crates/operator/src/metrics/words.rs: \
             UPDATE_DOCS=1 cargo test -p kubetask-operator --lib -->\n\n\
             `kubetask controller` serves them at `/metrics` in the OpenMetrics text format.\n\n\
             | name | type | labels | meaning |\n|---|---|---|---|\n",
        );
        for word in ALL {
            text.push_str(&format!("| `{}` | {} | {} | {} |\n", word.name, word.kind, word.labels, word.help));
        }
        text
    }

    #[test]
    fn the_documentation_lists_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == document(), "docs/metrics.md is out of date: UPDATE_DOCS=1 cargo test -p kubetask-operator");
    }
}
