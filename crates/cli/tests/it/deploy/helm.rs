//! The chart's templates render to what the code makes: Helm itself renders, through its SDK for Python.

use std::process::Command;

use kubetask::commands::install::all_objects;
use kubetask_core::deploy::{Release, Values};
use serde_json::{Value, json};

use super::{by_name, key, path};
use crate::machine::require;

const SCRIPT: &str = r#"
import json, sys
import helm_python as helm
path, sets = sys.argv[1], json.loads(sys.argv[2])
out = {"lint": helm.lint(path), "rendered": []}
with helm.Chart.load(path) as chart:
    for values in sets:
        try:
            out["rendered"].append(chart.render(values, name="kubetask", namespace="kubetask-system"))
        except helm.HelmError as error:
            out["rendered"].append(str(error))
json.dump(out, sys.stdout, default=str)
"#;

/// What Helm says of the chart, and what it renders for each set of values; `None` where its SDK is missing.
fn helm(sets: &[Value]) -> Option<Value> {
    let there = Command::new("python3").args(["-c", "import helm_python"]).output().is_ok_and(|o| o.status.success());
    if !require("helm-python-sdk (PyPI)", there) {
        return None;
    }
    let out = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(path("helm/kubetask"))
        .arg(Value::Array(sets.to_vec()).to_string())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(serde_json::from_slice(&out.stdout).unwrap())
}

/// The sets of values that are tried; together they change every value that a template looks at.
fn sets() -> Vec<Value> {
    vec![
        json!({}),
        json!({
            "image": {"repository": "registry.example/kt", "tag": "v9", "pullPolicy": "Always"},
            "imagePullSecrets": [{"name": "pull"}],
            "replicas": 3,
            "watchNamespace": "team-a",
            "defaultAgentImage": "registry.example/agent:1",
            "extraArgs": ["--verbose"],
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "resources": {"limits": null, "requests": {"cpu": "1"}},
            "podLabels": {"team": "a", "app.kubernetes.io/name": "not-this"},
            "podAnnotations": {"note": "yes"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "serviceAccount": {"create": true, "name": "kt", "annotations": {"role": "arn"}},
            "agents": {"namespaces": ["team-a", "team-b"], "serviceAccount": "agent"},
            "networkPolicy": {
                "agentEgressExcept": ["10.0.0.0/8"],
                "agentEgressExtra": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}],
                "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            },
            "metrics": {"serviceMonitor": true},
            "namespace": {"create": true, "podSecurity": "baseline"},
        }),
        json!({
            "image": {"digest": format!("sha256:{}", "0".repeat(64))},
            "serviceAccount": {"create": false, "name": "given"},
            "rbac": {"create": false},
            "networkPolicy": {"enabled": false},
            "metrics": {"service": false},
            "podDisruptionBudget": {"enabled": false},
            "crds": {"install": false},
        }),
        json!({"rbac": {"aggregate": false}, "networkPolicy": {"agentEgressExcept": []}, "crds": {"keep": false}}),
    ]
}

#[test]
fn chart_renders_what_the_code_makes() {
    let sets = sets();
    let Some(answer) = helm(&sets) else { return };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let release = Release {
        name: "kubetask".to_owned(),
        namespace: "kubetask-system".to_owned(),
        version,
        managed_by: "Helm".to_owned(),
    };
    for (set, rendered) in sets.iter().zip(answer["rendered"].as_array().unwrap()) {
        let files = rendered.as_object().unwrap_or_else(|| panic!("{set}: {rendered}"));
        let text: String = files
            .iter()
            .filter(|(name, _)| name.ends_with(".yaml"))
            .map(|(_, text)| format!("---\n{}\n", text.as_str().unwrap()))
            .collect();
        let rendered = by_name(&text);
        let values: Values = Values::chosen(set.clone()).unwrap();
        let mut expect: std::collections::BTreeMap<_, _> =
            all_objects(&values, &release).into_iter().map(|o| (key(&o), o)).collect();
        if values.crds.keep {
            for crd in expect.values_mut().filter(|o| o["kind"] == "CustomResourceDefinition") {
                crd["metadata"]["annotations"]["helm.sh/resource-policy"] = json!("keep");
            }
        }
        assert_eq!(rendered.keys().collect::<Vec<_>>(), expect.keys().collect::<Vec<_>>(), "{set}");
        for (name, object) in &expect {
            assert_eq!(&rendered[name], object, "{name} with {set}");
        }
        let notes = files.iter().find(|(name, _)| name.ends_with("NOTES.txt"));
        if let Some((_, notes)) = notes {
            assert!(notes.as_str().unwrap().contains("rollout status"), "{notes}");
        }
    }
}

#[test]
fn chart_is_clean_and_refuses_wrong_values() {
    let wrong = [
        json!({"replica": 3}),
        json!({"replicas": 0}),
        json!({"image": {"pullPolicy": "Sometimes"}}),
        json!({"namespace": {"podSecurity": "none"}}),
    ];
    let Some(answer) = helm(&wrong) else { return };
    // 1 is a remark; 2 a warning, 3 an error.
    let messages = answer["lint"]["messages"].as_array().unwrap();
    assert!(messages.iter().all(|m| m["severity"].as_u64() == Some(1)), "{messages:?}");
    assert_eq!(answer["lint"]["errors"], json!([]));
    for (set, said) in wrong.iter().zip(answer["rendered"].as_array().unwrap()) {
        let said = said.as_str().unwrap_or_else(|| panic!("rendered with {set}"));
        assert!(said.contains("schema"), "{set}: {said}");
    }
    // A chart around this one hands it its globals.
    let Some(answer) = helm(&[json!({"global": {"imageRegistry": "x"}})]) else { return };
    assert!(answer["rendered"][0].is_object(), "{answer}");
}
