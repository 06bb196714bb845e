//! What an API server does with an object of ours: prune, default, validate, rules.

use std::sync::LazyLock;

use kubetask_schema::cel::Compiled;
use kubetask_schema::field::Path;
use kubetask_schema::model::Schema;
use kubetask_schema::{default, parse, prune, validate};
use serde_json::Value;

pub(crate) struct Kind {
    pub(crate) name: String,
    schema: Schema,
    rules: Compiled,
}

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let kinds = kubetask_api::crds().into_iter().map(|crd| {
        let version = &crd.spec.versions[0];
        let json = serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap();
        let schema = parse::structural(&json).unwrap();
        let rules = Compiled::new(&schema);
        Kind { name: crd.spec.names.kind, schema, rules }
    });
    kinds.collect()
});

pub(crate) fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|k| k.name == name).unwrap_or_else(|| panic!("no kind {name}"))
}

/// The object as it is stored, or everything that is wrong with it.
pub(crate) fn store(object: &Value, old: Option<&Value>) -> Result<Value, Vec<String>> {
    let kind = kind(object["kind"].as_str().unwrap());
    let mut object = object.clone();
    let unknown = prune::prune(&mut object, &kind.schema, prune::Options::object());
    if !unknown.is_empty() {
        return Err(unknown.into_iter().map(|field| format!("unknown field \"{field}\"")).collect());
    }
    default::apply(&mut object, &kind.schema);
    let mut errors = validate::validate(&object, old, &kind.schema, &Path::root());
    if !validate::blocks_rules(&errors) {
        errors.extend(kind.rules.validate(&object, old).errors);
    }
    if errors.is_empty() { Ok(object) } else { Err(errors.iter().map(ToString::to_string).collect()) }
}

/// All documents of a YAML text.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    let documents = kubetask_yaml::read_all(yaml, kubetask_yaml::Limits::default()).unwrap();
    documents.into_iter().map(|d| d.value).collect()
}
