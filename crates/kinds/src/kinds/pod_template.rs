//! Pod templates: stored objects.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::edit::{ensure, items, text};
use super::{finalizers, pod};
use crate::kind::{Hooks, Part};
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const HOOKS: Hooks = Hooks {
    default: |object| {
        if let Some(template) = ensure(object, "template") {
            pod::defaults::template(template);
        }
    },
    prepare_create: super::edit::first_generation,
    prepare_update: |new, old, _: Part| {
        let changed = new["template"] != old["template"];
        super::edit::bump_generation(new, old, changed);
    },
    validate,
    validate_update: |new, _, _, errors| validate(new, errors),
    columns: || &COLUMNS,
    row,
    ..Hooks::NONE
};

fn validate(object: &Value, errors: &mut Vec<Error>) {
    finalizers(object, errors);
    validate_template(&object["template"], &Path::new("template"), errors);
}

/// What is wrong with a template at `path`. Errors about its metadata leave the word out.
pub(super) fn validate_template(template: &Value, path: &Path, errors: &mut Vec<Error>) {
    let meta = &template["metadata"];
    crate::meta::labels(&meta["labels"], &path.child("labels"), errors);
    crate::meta::annotations(&meta["annotations"], &path.child("annotations"), errors);
    pod::spec::validate(&template["spec"], &path.child("spec"), errors);
    if !items(&template["spec"], "ephemeralContainers").is_empty() {
        let field = path.child("spec").child("ephemeralContainers");
        errors.push(Error::forbidden(&field, "ephemeral containers not allowed in pod template"));
    }
}

static COLUMNS: [Column; 5] = [
    NAME,
    column("Containers", "Names of each container in the template.", 0),
    column("Images", "Images referenced by each container in the template.", 0),
    column("Pod Labels", "The labels for the pod template.", 0),
    AGE,
];

fn row(object: &Value, now: Timestamp) -> Row {
    let template = &object["template"];
    let containers = items(&template["spec"], "containers");
    let join = |member: &str| containers.iter().map(|c| text(c, member)).collect::<Vec<_>>().join(",");
    let labels: Vec<String> = template["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    let labels = if labels.is_empty() { "<none>".to_owned() } else { labels.join(",") };
    Row {
        cells: vec![
            name(object),
            Value::from(join("name")),
            Value::from(join("image")),
            Value::from(labels),
            age(object, now),
        ],
        conditions: Vec::new(),
    }
}
