//! The embedded server against recordings of Kubernetes.
//!
//! `fixtures/conformance/AREA.json` holds scenarios with what Kubernetes 1.36 answered to them, one a line. Each runs in
//! a namespace of its own against one server, its answers are made comparable as the recordings were, and every
//! difference is told with its JSON path. `CONFORMANCE=crd,patch/apply-` runs those areas or scenarios only.

mod normal;
mod paths;
mod run;
mod server;
mod shape;
mod text;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::machine::{Machine, require};
use run::Run;
use server::Server;

/// Scenarios at the same time.
const AT_ONCE: usize = 8;
/// How often a scenario that differs is run again.
const CHANCES: usize = 3;
/// Differences told of one scenario.
const TOLD: usize = 5;

const AREAS: [(&str, &str); 11] = [
    ("auth", include_str!("../../fixtures/conformance/auth.json")),
    ("crd", include_str!("../../fixtures/conformance/crd.json")),
    ("crud", include_str!("../../fixtures/conformance/crud.json")),
    ("delete", include_str!("../../fixtures/conformance/delete.json")),
    ("discovery", include_str!("../../fixtures/conformance/discovery.json")),
    ("job", include_str!("../../fixtures/conformance/job.json")),
    ("kubectl", include_str!("../../fixtures/conformance/kubectl.json")),
    ("list", include_str!("../../fixtures/conformance/list.json")),
    ("patch", include_str!("../../fixtures/conformance/patch.json")),
    ("pod", include_str!("../../fixtures/conformance/pod.json")),
    ("watch", include_str!("../../fixtures/conformance/watch.json")),
];
/// About KubeTask's own kinds.
const OWN: &str = include_str!("../../fixtures/conformance/own.json");
const DEFINITIONS: &str = include_str!("../../fixtures/conformance/definitions.json");

fn recordings<'a>(areas: impl Iterator<Item = &'a str>) -> Vec<Value> {
    let wanted = std::env::var("CONFORMANCE").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').filter(|part| !part.is_empty()).collect();
    let all = areas.flat_map(str::lines).map(|line| serde_json::from_str::<Value>(line).expect("a recording is JSON"));
    all.filter(|recording| wanted.is_empty() || wanted.iter().any(|start| id(recording).starts_with(start))).collect()
}

fn id(recording: &Value) -> String {
    let text = |name: &str| recording["scenario"][name].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("area"), text("name"))
}

fn uses_kubectl(recording: &Value) -> bool {
    recording["scenario"]["steps"].as_array().into_iter().flatten().any(|step| step["kind"] == "kubectl")
}

/// `1.32` of the kubectl that is there.
fn kubectl_version(machine: &Machine) -> Option<String> {
    let out = machine.kubectl(&["version", "--client", "-o", "json"])?.ok();
    let version: Value = serde_json::from_str(&out.stdout).unwrap();
    Some(minor(version["clientVersion"]["gitVersion"].as_str()?))
}

fn minor(version: &str) -> String {
    version.trim_start_matches('v').split('.').take(2).collect::<Vec<_>>().join(".")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_server_answers_as_recorded() {
    let machine = Machine::up();
    let server = Server::of(&machine.kubeconfig()).await;
    define(&server).await;
    let kubectl = kubectl_version(&machine);
    let (mut runs, mut skipped) = (Vec::new(), 0);
    for recording in recordings(AREAS.iter().map(|(_, lines)| *lines)) {
        let versions = recording["kubectl_versions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if uses_kubectl(&recording) && !versions.map(minor).any(|version| Some(version) == kubectl) {
            eprintln!("SKIPPED: {} was recorded with another kubectl than {kubectl:?}", id(&recording));
            skipped += 1;
        } else {
            runs.push(recording);
        }
    }
    require("a kubectl", kubectl.is_some());
    eprintln!("{skipped} scenarios skipped");
    all_as_recorded(&server, &machine, runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn our_kinds_are_answered_as_recorded() {
    let mut machine = Machine::new();
    // The operator would write what becomes of the objects.
    machine.start_with(&["--without-operator"]);
    let server = Server::of(&machine.kubeconfig()).await;
    all_as_recorded(&server, &machine, recordings([OWN].into_iter())).await;
}

async fn all_as_recorded(server: &Server, machine: &Machine, runs: Vec<Value>) {
    let total = runs.len();
    let mut differ = differing(server, machine, runs, AT_ONCE).await;
    // Some scenarios watch the clock: what differs among others, or on a busy machine, gets more chances by itself.
    for _ in 0..CHANCES {
        for (recording, told) in &differ {
            eprintln!("again: {}\n{}", id(recording), told.join("\n"));
        }
        let again = differ.into_iter().map(|(recording, _)| recording).collect();
        differ = differing(server, machine, again, 1).await;
    }
    eprintln!("{} of {total} scenarios as recorded", total - differ.len());
    let lines: Vec<String> =
        differ.iter().map(|(recording, told)| format!("{}\n{}", id(recording), told.join("\n"))).collect();
    assert!(differ.is_empty(), "{} of {total} scenarios differ:\n{}", differ.len(), lines.join("\n"));
}

/// Runs scenarios, so many at once; those that differ, and in what.
async fn differing(
    server: &Server,
    machine: &Machine,
    recordings: Vec<Value>,
    at_once: usize,
) -> Vec<(Value, Vec<String>)> {
    let places = Arc::new(tokio::sync::Semaphore::new(at_once));
    let mut tasks = tokio::task::JoinSet::new();
    for recording in recordings {
        let (server, kubeconfig, places) = (server.clone(), machine.kubeconfig(), places.clone());
        tasks.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let results = Run::new(server, kubeconfig, recording["scenario"].clone()).results().await;
            let told = compare(&recording, &results);
            (recording, told)
        });
    }
    let mut out = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let (recording, told) = ended.unwrap();
        if !told.is_empty() {
            out.push((recording, told));
        }
    }
    out
}

fn compare(recording: &Value, results: &[Value]) -> Vec<String> {
    let expected = recording["results"].as_array().expect("a recording has results");
    let steps = &recording["scenario"]["steps"];
    let mut out = Vec::new();
    for (i, (expected, got)) in expected.iter().zip(results).enumerate() {
        let mut found = Vec::new();
        shape::differences(expected, got, "$", &mut found);
        let step = &steps[i];
        let what = ["method", "path", "args"].map(|name| match &step[name] {
            Value::Null => String::new(),
            Value::String(text) => format!("{text} "),
            other => other.to_string(),
        });
        out.extend(found.into_iter().map(|text| format!("    step {} [{}] {text}", i + 1, what.concat().trim())));
    }
    let more = out.len().saturating_sub(TOLD);
    out.truncate(TOLD);
    if more > 0 {
        out.push(format!("    and {more} more"));
    }
    out
}

/// Creates the definitions that scenarios share.
async fn define(server: &Server) {
    let definitions: Value = serde_json::from_str(DEFINITIONS).expect("definitions are JSON");
    for definition in definitions.as_array().expect("a list") {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let answer = server.send("POST", path, Some(definition.clone())).await;
        assert_eq!(answer["status"], json!(201), "{answer}");
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let path = format!(
            "/apis/{}/{}/{}",
            text(&spec["group"]),
            text(&spec["versions"][0]["name"]),
            text(&spec["names"]["plural"])
        );
        let served = async {
            while server.get(&path).await["status"] != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), served).await.expect("the definition is served");
    }
}
