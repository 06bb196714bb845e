//! What lies in `deploy/` is what the code says: `UPDATE_DEPLOY=1 cargo test -p kubetask --test it deploy` writes it.

mod chart;
mod helm;
mod installing;

use std::path::{Path, PathBuf};

use kubetask::commands::install::{Format, all_objects, render};
use kubetask_core::deploy::{NAMESPACE, Namespace, Release, Values};
use serde_json::Value;

use crate::machine::{on_path, require};

/// A file under `deploy/`.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

/// Compares a generated text with the committed file, or writes it.
fn check(name: &str, generated: &str) {
    let path = path(name);
    if std::env::var_os("UPDATE_DEPLOY").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(generated.lines()).find(|(a, b)| a != b);
    assert!(
        committed == generated,
        "deploy/{name} is not what the code makes; UPDATE_DEPLOY=1 cargo test -p kubetask --test it deploy writes it \
         anew\n{differs:#?}"
    );
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap()
}

/// What `kubetask install` takes when nothing is chosen.
fn usual() -> (Values, Release) {
    let values = Values { namespace: Namespace { create: true, ..Namespace::default() }, ..Values::default() };
    (values, Release::by_command(NAMESPACE, env!("CARGO_PKG_VERSION")))
}

#[test]
fn install_yaml_is_what_the_code_makes() {
    let (values, release) = usual();
    check("install.yaml", &render(&values, &release, Format::Yaml).unwrap());
}

#[test]
fn kustomize_base_is_what_the_code_makes() {
    let (values, release) = usual();
    let (crds, operator): (Vec<_>, Vec<_>) =
        all_objects(&values, &release).into_iter().partition(|o| o["kind"] == "CustomResourceDefinition");
    let stream = |objects: &[Value]| objects.iter().map(|o| format!("---\n{}", yaml(o))).collect::<String>();
    check("kustomize/crds.yaml", &stream(&crds));
    check("kustomize/operator.yaml", &stream(&operator));
    check(
        "kustomize/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - crds.yaml\n  - operator.yaml\n",
    );
}

/// Objects of a YAML stream, by kind, namespace and name.
fn by_name(text: &str) -> std::collections::BTreeMap<String, Value> {
    let documents = kubetask_yaml::read_all(text, kubetask_yaml::Limits::default()).unwrap();
    documents.into_iter().map(|d| d.value).filter(|v| !v.is_null()).map(|v| (key(&v), v)).collect()
}

fn key(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}

#[test]
fn kustomize_builds_the_same_objects() {
    if !require("kubectl", on_path("kubectl")) {
        return;
    }
    let built = std::process::Command::new("kubectl").arg("kustomize").arg(path("kustomize")).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (values, release) = usual();
    let expect: std::collections::BTreeMap<_, _> =
        all_objects(&values, &release).into_iter().map(|o| (key(&o), o)).collect();
    assert_eq!(by_name(&String::from_utf8(built.stdout).unwrap()), expect);
}

#[test]
fn install_prints_manifests_without_a_cluster() {
    let machine = crate::machine::Machine::new();
    let out = machine.kubetask(&["install", "-o", "yaml", "--set", "replicas=3", "-n", "elsewhere"]).ok().stdout;
    let objects = by_name(&out);
    assert_eq!(objects["Deployment elsewhere/kubetask-controller"]["spec"]["replicas"], 3);
    let json = machine.kubetask(&["install", "-o", "json", "--set", "crds.install=false"]).ok().stdout;
    let list: Value = serde_json::from_str(&json).unwrap();
    assert!(list["items"].as_array().unwrap().iter().all(|o| o["kind"] != "CustomResourceDefinition"));
    let wrong = machine.kubetask(&["install", "-o", "yaml", "--set", "replica=3"]).code(2);
    assert!(wrong.stderr.contains("unknown field `replica`"), "{}", wrong.stderr);
    let nowhere = machine.kubetask(&["install"]).code(2);
    assert!(nowhere.stderr.contains("--context"), "{}", nowhere.stderr);
    assert!(!machine.data_dir().exists());
}

#[test]
fn daemon_manifests_are_what_kubernetes_and_the_command_read() {
    let text = std::fs::read_to_string(path("daemon/daemon.yaml")).unwrap();
    let objects = by_name(&text);
    let set = &objects["StatefulSet /kubetask-daemon"];
    let typed: k8s_openapi::api::apps::v1::StatefulSet = serde_json::from_value(set.clone()).unwrap();
    assert_eq!(
        &serde_json::to_value(&typed).unwrap()["spec"],
        &set["spec"],
        "every field is one that Kubernetes knows"
    );
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    parses(container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()));
    // Every variable that is set is one that the command reads.
    let up = machine_help();
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(matches!(name, "POD_UID" | "POD_IP") || up.contains(&format!("[env: {name}")), "{name}");
    }
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
    }
    let (requests, limits) = (&container["resources"]["requests"], &container["resources"]["limits"]);
    assert!(["cpu", "memory"].iter().all(|what| requests[what].is_string() && limits[what].is_string()));
    let image = container["image"].as_str().unwrap();
    assert!(image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{image}");
}

/// What `kubetask up --help` says.
fn machine_help() -> String {
    crate::machine::Machine::new().kubetask(&["up", "--help"]).ok().stdout
}

/// The Deployment of the controller starts with words that `kubetask controller` takes.
fn starts_the_controller(deployment: &Value) {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let words: Vec<&str> = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words.first(), Some(&"controller"), "{words:?}");
    parses(words.into_iter());
}

#[test]
fn deployments_start_the_controller_with_words_it_takes() {
    for file in ["install.yaml", "kustomize/operator.yaml"] {
        let objects = by_name(&std::fs::read_to_string(path(file)).unwrap());
        starts_the_controller(&objects["Deployment kubetask-system/kubetask-controller"]);
    }
    // Whatever may be chosen; Helm renders the same, which its own test shows.
    let values: Values = serde_json::from_value(serde_json::json!({
        "watchNamespace": "team-a", "defaultAgentImage": "registry.example/agent:1", "extraArgs": ["--verbose"],
    }))
    .unwrap();
    let release = Release::by_command(NAMESPACE, env!("CARGO_PKG_VERSION"));
    let objects = all_objects(&values, &release);
    starts_the_controller(objects.iter().find(|object| object["kind"] == "Deployment").unwrap());
}

/// Whether the command line of this build takes these words.
fn parses<'a>(words: impl Iterator<Item = &'a str>) {
    use clap::Parser;
    let line: Vec<&str> = std::iter::once("kubetask").chain(words).collect();
    kubetask::args::Cli::try_parse_from(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
}

#[test]
fn dockerfile_works_without_a_repository_and_pins_what_it_uses() {
    let text = std::fs::read_to_string(path("Dockerfile")).unwrap();
    for line in ["USER 65532:65532", "SOURCE_DATE_EPOCH", "--locked", "ca-certificates", "ENTRYPOINT [\"kubetask\"]"] {
        assert!(text.contains(line), "{line}");
    }
    let ignore = std::fs::read_to_string(path("Dockerfile.dockerignore")).unwrap();
    assert!(ignore.lines().any(|line| line == "*") && !ignore.contains("!.git"));
    let rust = std::fs::read_to_string(path("../Cargo.toml")).unwrap();
    let rust = rust.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap().trim_end_matches('"');
    assert!(text.contains(&format!("rust:{rust}-alpine")), "the image compiles with the oldest Rust that is promised");
}
