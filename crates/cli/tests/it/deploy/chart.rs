//! The files of the Helm chart that are generated: values, their schema, the README, rights and definitions.

use kubetask_core::deploy::{OLDEST_KUBERNETES, Values, controller_rules, lease_rules, values_schema};
use serde_json::{Map, Value, json};

use super::{check, yaml};

fn chart(name: &str) -> String {
    format!("helm/kubetask/{name}")
}

#[test]
fn chart_metadata_has_the_version() {
    let version = env!("CARGO_PKG_VERSION");
    let (major, minor) = OLDEST_KUBERNETES;
    let text = format!(
        "apiVersion: v2\nname: kubetask\ndescription: Runs AI-agent tasks, declared as Kubernetes objects, as Jobs\ntype: application\n\
         version: {version}\nappVersion: {version}\nkubeVersion: \">={major}.{minor}.0-0\"\nhome: https://github.com/kubetask/kubetask\n\
         sources:\n  - https://github.com/kubetask/kubetask\nkeywords: [ai, agents, tasks, jobs]\nmaintainers:\n  - name: The KubeTask authors\n"
    );
    check(&chart("Chart.yaml"), &text);
}

#[test]
fn chart_files_hold_rights_and_definitions() {
    check(&chart("files/controller-rules.yaml"), &yaml(&Value::Array(controller_rules())));
    check(&chart("files/lease-rules.yaml"), &yaml(&Value::Array(lease_rules())));
    for crd in kubetask_api::crds_json() {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        check(&chart(&format!("files/crds/{plural}.yaml")), &yaml(&crd));
    }
}

#[test]
fn chart_schema_is_that_of_the_values() {
    check(&chart("values.schema.json"), &(serde_json::to_string_pretty(&values_schema()).unwrap() + "\n"));
}

#[test]
fn chart_values_are_the_defaults_with_comments() {
    let mut out = String::from(
        "# Values of the chart, and of `kubetask install --values`. Generated; README.md has them as a table.\n",
    );
    write_values(&mut out, &defaults(), &values_schema(), 0);
    check(&chart("values.yaml"), &out);
    let read = kubetask_yaml::read_one(&out, kubetask_yaml::Limits::default()).unwrap().value;
    assert_eq!(serde_json::from_value::<Values>(read).unwrap(), Values::default());
}

#[test]
fn chart_readme_lists_every_value() {
    let mut rows = Vec::new();
    collect(&mut rows, "", &defaults(), &values_schema());
    let mut out = String::from(
        "# KubeTask Helm chart\n\n\
         Installs the KubeTask operator: two replicas of which one leads, rights for what it does and no more, restricted\n\
         pods, network policies, and the definitions of the six kinds.\n\n\
         ```console\n$ helm install kubetask deploy/helm/kubetask --namespace kubetask-system --create-namespace\n```\n\n\
         An upgrade renews the definitions and leaves Tasks as they are. `helm uninstall` leaves the definitions, and with\n\
         them every Task, unless `crds.keep` is false. `kubetask install` installs the same objects without Helm;\n\
         [docs/install.md](../../../docs/install.md) compares the ways.\n\n## Values\n\n| value | default | what it is |\n|---|---|---|\n",
    );
    for (name, default, description) in rows {
        out.push_str(&format!("| `{name}` | `{default}` | {description} |\n"));
    }
    check(&chart("README.md"), &out);
}

fn defaults() -> Value {
    serde_json::to_value(Values::default()).unwrap()
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn is_section(value: &Value, schema: &Value) -> bool {
    value.is_object() && schema["properties"].as_object().is_some_and(|p| !p.is_empty())
}

fn write_values(out: &mut String, values: &Value, schema: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    for (name, value) in values.as_object().unwrap_or(&Map::new()) {
        let schema = &schema["properties"][name];
        if depth == 0 {
            out.push('\n');
        }
        out.push_str(&format!("{indent}# {}\n", description(schema)));
        if is_section(value, schema) {
            out.push_str(&format!("{indent}{name}:\n"));
            write_values(out, value, schema, depth + 1);
        } else {
            let text = yaml(&json!({ name: value }));
            for line in text.lines() {
                out.push_str(&format!("{indent}{line}\n"));
            }
        }
    }
}

fn collect(rows: &mut Vec<(String, String, String)>, prefix: &str, values: &Value, schema: &Value) {
    for (name, value) in values.as_object().unwrap_or(&Map::new()) {
        let schema = &schema["properties"][name];
        let full = format!("{prefix}{name}");
        if is_section(value, schema) {
            collect(rows, &format!("{full}."), value, schema);
        } else {
            rows.push((full, value.to_string(), description(schema)));
        }
    }
}
