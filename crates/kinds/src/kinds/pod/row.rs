//! A pod in `kubectl get pods`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::edit::{has, items, text};
use crate::table::{AGE, Column, NAME, Row, age, column, name, since};

static COLUMNS: [Column; 9] = [
    NAME,
    column("Ready", "The aggregate readiness state of this pod for accepting traffic.", 0),
    column("Status", "The aggregate status of the containers in this pod.", 0),
    column(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        0,
    ),
    AGE,
    column(
        "IP",
        "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
        1,
    ),
    column(
        "Node",
        "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName. Once this field is set, the kubelet for this node becomes responsible for the lifecycle of this pod. This field should not be used to express a desire for the pod to be scheduled on a specific node. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename",
        1,
    ),
    column(
        "Nominated Node",
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods. This field does not guarantee that the pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is scheduled.",
        1,
    ),
    column(
        "Readiness Gates",
        "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates",
        1,
    ),
];

pub(super) fn columns() -> &'static [Column] {
    &COLUMNS
}

pub(super) fn row(pod: &Value, now: Timestamp) -> Row {
    let summary = Summary::of(pod);
    let restarts = match &summary.last_restart {
        Some(at) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, since(at, now)),
        _ => summary.restarts.to_string(),
    };
    let status = &pod["status"];
    let ip = items(status, "podIPs").first().map_or_else(|| text(status, "podIP"), |ip| text(ip, "ip"));
    let cells = vec![
        name(pod),
        Value::from(format!("{}/{}", summary.ready, summary.total)),
        Value::from(summary.reason),
        Value::from(restarts),
        age(pod, now),
        Value::from(or_none(ip)),
        Value::from(or_none(text(&pod["spec"], "nodeName"))),
        Value::from(or_none(text(status, "nominatedNodeName"))),
        Value::from(readiness_gates(pod)),
    ];
    let conditions = match text(status, "phase") {
        "Succeeded" => vec![finished("Succeeded", "The pod has completed successfully.")],
        "Failed" => vec![finished("Failed", "The pod failed.")],
        _ => Vec::new(),
    };
    Row { cells, conditions }
}

fn finished(reason: &str, message: &str) -> Value {
    json!({"type": "Completed", "status": "True", "reason": reason, "message": message})
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(&pod["spec"], "readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates.iter().filter(|g| condition(pod, text(g, "conditionType"))).count();
    format!("{met}/{}", gates.len())
}

fn condition(pod: &Value, type_: &str) -> bool {
    items(&pod["status"], "conditions").iter().any(|c| text(c, "type") == type_ && text(c, "status") == "True")
}

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Value>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let status = &pod["status"];
        let mut out = Self { total: items(&pod["spec"], "containers").len(), ..Self::default() };
        out.reason = [text(status, "reason"), text(status, "phase")]
            .into_iter()
            .find(|r| !r.is_empty())
            .unwrap_or("")
            .to_owned();
        let gated = items(status, "conditions")
            .iter()
            .any(|c| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated");
        if gated {
            out.reason = "SchedulingGated".to_owned();
        }
        let initializing = out.init_containers(pod);
        if !initializing || condition(pod, "Initialized") {
            out.containers(pod);
        }
        if has(&pod["metadata"], "deletionTimestamp") {
            if text(status, "reason") == "NodeLost" {
                out.reason = "Unknown".to_owned();
            } else if !matches!(text(status, "phase"), "Succeeded" | "Failed") {
                out.reason = "Terminating".to_owned();
            }
        }
        out
    }

    /// Whether an init container still stands in the way; sets the reason if so.
    fn init_containers(&mut self, pod: &Value) -> bool {
        let specs = items(&pod["spec"], "initContainers");
        let sidecar =
            |name: &str| specs.iter().any(|c| text(c, "name") == name && text(c, "restartPolicy") == "Always");
        self.total += specs.iter().filter(|c| text(c, "restartPolicy") == "Always").count();
        let mut sidecar_restarts = 0;
        let mut all_restarts = 0;
        let mut blocked = false;
        for (i, status) in items(&pod["status"], "initContainerStatuses").iter().enumerate() {
            let restarts = status["restartCount"].as_i64().unwrap_or(0);
            all_restarts += restarts;
            self.note_restart(status);
            let state = &status["state"];
            if sidecar(text(status, "name")) {
                sidecar_restarts += restarts;
                if status["started"] == true {
                    if status["ready"] == true {
                        self.ready += 1;
                    }
                    continue;
                }
            }
            if has(state, "terminated") && state["terminated"]["exitCode"].as_i64() == Some(0) {
                continue;
            }
            if has(state, "terminated") {
                self.reason = format!("Init:{}", terminated(&state["terminated"]));
            } else if !matches!(text(&state["waiting"], "reason"), "" | "PodInitializing") {
                self.reason = format!("Init:{}", text(&state["waiting"], "reason"));
            } else {
                self.reason = format!("Init:{i}/{}", specs.len());
            }
            blocked = true;
            break;
        }
        self.restarts = if blocked && !condition(pod, "Initialized") { all_restarts } else { sidecar_restarts };
        blocked
    }

    fn containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in items(&pod["status"], "containerStatuses").iter().rev() {
            self.restarts += status["restartCount"].as_i64().unwrap_or(0);
            self.note_restart(status);
            let state = &status["state"];
            let waiting = text(&state["waiting"], "reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if has(state, "terminated") {
                self.reason = terminated(&state["terminated"]);
            } else if status["ready"] == true && has(state, "running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn note_restart(&mut self, status: &Value) {
        let finished = &status["lastState"]["terminated"]["finishedAt"];
        let later = match (&self.last_restart, finished.as_str()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(at)) => before.as_str().is_some_and(|b| b < at),
        };
        if later {
            self.last_restart = Some(finished.clone());
        }
    }
}

fn terminated(state: &Value) -> String {
    let reason = text(state, "reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match state["signal"].as_i64() {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", state["exitCode"].as_i64().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Value, expect: &str) {
        let pod = json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
            "status": status,
        });
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        let cells: Vec<String> = row(&pod, now).cells.iter().take(5).map(|c| c.as_str().unwrap().to_owned()).collect();
        assert_eq!(cells.join(" "), expect);
    }

    #[test]
    fn tells_what_kubectl_tells() {
        check(json!({"phase": "Pending"}), "p 0/1 Pending 0 5m");
        check(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            "p 0/1 Init:0/1 0 5m",
        );
        check(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]}),
            "p 0/1 Init:Error 0 5m",
        );
        check(
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}),
            "p 1/1 Running 0 5m",
        );
        check(
            json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            "p 0/1 Completed 0 5m",
        );
        check(
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 2,
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:04:00Z"}},
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            "p 0/1 CrashLoopBackOff 2 (60s ago) 5m",
        );
        check(
            json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]}),
            "p 0/1 ExitCode:3 0 5m",
        );
        check(json!({"phase": "Failed", "reason": "DeadlineExceeded"}), "p 0/1 DeadlineExceeded 0 5m");
    }
}
