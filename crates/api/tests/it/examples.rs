//! Every example is accepted as written, and means the same to our types.

use kubetask_api::{Agent, Batch, BatchRun, CronTask, KubeTaskConfig, Task};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::server::{documents, store};

const EXAMPLES: &[(&str, &str)] = &[
    ("task", include_str!("../fixtures/task.yaml")),
    ("crontask", include_str!("../fixtures/crontask.yaml")),
    ("agent", include_str!("../fixtures/agent.yaml")),
    ("config", include_str!("../fixtures/config.yaml")),
    ("config-keep", include_str!("../fixtures/config-keep.yaml")),
    ("simple", include_str!("../fixtures/simple.yaml")),
    ("several-sources", include_str!("../fixtures/several-sources.yaml")),
    ("rendered-by-helm", include_str!("../fixtures/rendered-by-helm.yaml")),
    ("fragments", include_str!("../fixtures/fragments.yaml")),
    ("aggregated", include_str!("../fixtures/aggregated.yaml")),
    ("every-field", include_str!("../fixtures/every-field.yaml")),
];

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
}

/// Conditions need times; the examples leave them out of a status, which no client writes.
fn without_status(mut object: Value) -> Value {
    object.as_object_mut().unwrap().remove("status");
    object
}

#[test]
fn are_accepted_as_written() {
    for (name, text) in EXAMPLES {
        for document in documents(text) {
            let stored = store(&without_status(document), None).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
            let typed = match stored["kind"].as_str().unwrap() {
                "Task" => through::<Task>(&stored),
                "CronTask" => through::<CronTask>(&stored),
                "Agent" => through::<Agent>(&stored),
                "KubeTaskConfig" => through::<KubeTaskConfig>(&stored),
                "Batch" => through::<Batch>(&stored),
                "BatchRun" => through::<BatchRun>(&stored),
                other => panic!("{other}"),
            };
            assert_eq!(lenient(typed), lenient(stored), "{name}: what the types make of it");
        }
    }
}

/// `contexts` is always written, even when empty; numbers are quantities.
fn lenient(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        if let Value::Object(map) = value {
            map.retain(|key, value| !(key == "contexts" && value == &json!([])));
            if let Some(limits) = map.get_mut("limits").and_then(Value::as_object_mut) {
                for quantity in limits.values_mut().filter(|q| q.is_number()) {
                    *quantity = json!(quantity.to_string());
                }
            }
            map.values_mut().for_each(walk);
        } else if let Value::Array(items) = value {
            items.iter_mut().for_each(walk);
        }
    }
    walk(&mut value);
    value
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let stored = |index: usize| store(&documents(include_str!("../fixtures/every-field.yaml"))[index], None).unwrap();
    let task = stored(0);
    assert_eq!(task["spec"]["humanInTheLoop"]["keepAliveSeconds"], 3600);
    assert_eq!(task["spec"]["contexts"][3]["repository"]["depth"], 1);
    let cron = stored(2);
    assert_eq!(cron["spec"]["successfulTasksHistoryLimit"], 3);
    assert_eq!(cron["spec"]["failedTasksHistoryLimit"], 1);
    assert_eq!(cron["spec"]["suspend"], false);
    assert_eq!(cron["spec"]["taskTemplate"]["spec"]["retries"], 0);
    assert_eq!(stored(3)["spec"]["taskLifecycle"]["ttlSecondsAfterFinished"], 604_800);
    let minimal =
        json!({"kind": "CronTask", "spec": {"schedule": "@daily", "taskTemplate": {"spec": {"prompt": "x"}}}});
    let minimal = store(&minimal, None).unwrap();
    assert_eq!(minimal["spec"]["concurrencyPolicy"], "Forbid");
    assert_eq!(minimal["spec"]["catchUp"], "Once");
}

#[test]
fn octal_modes_are_octal() {
    let agent = &documents(include_str!("../fixtures/agent.yaml"))[0];
    assert_eq!(agent["spec"]["credentials"][1]["fileMode"], 0o400);
}
