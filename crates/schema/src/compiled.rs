//! A schema made ready for use: what the API server keeps per version of a kind.
//!
//! [`CompiledSchema`] puts the steps together in the order in which Kubernetes takes them: default, prune, validate,
//! rules. It is cheap to share (`Arc`) and holds every compiled pattern and rule.

use std::sync::Arc;

use serde_json::Value;

use crate::cel::{self, Findings};
use crate::field::{Error, Path};
use crate::model::Schema;
use crate::{default, prune, validate};

/// A schema with its compiled rules.
#[derive(Debug)]
pub struct CompiledSchema {
    schema: Arc<Schema>,
    rules: cel::Compiled,
}

impl CompiledSchema {
    /// Compiles the rules of `schema`; patterns compile on first use.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        let rules = cel::Compiled::new(&schema);
        Self { schema, rules }
    }

    /// The schema itself.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Defaults and prunes a whole object that comes in; returns the paths of the unknown fields that were dropped.
    pub fn admit(&self, object: &mut Value) -> Vec<String> {
        default::apply(object, &self.schema);
        prune::prune(object, &self.schema, prune::Options::object())
    }

    /// Everything that is wrong with a new object. `errors` are what was found before (names, metadata): they come
    /// first in the result and decide with the rest whether rules are run.
    #[must_use]
    pub fn validate_create(&self, object: &Value, errors: Vec<Error>) -> Vec<Error> {
        self.check(object, None, errors).errors
    }

    /// Everything that is wrong with the change from `old` to `new`; see [`CompiledSchema::validate_create`].
    #[must_use]
    pub fn validate_update(&self, new: &Value, old: &Value, errors: Vec<Error>) -> Findings {
        self.check(new, Some(old), errors)
    }

    /// Everything that is wrong with a write to the status subresource, where `new` is the whole object: only its
    /// status is held to the schema, but the rules see all of it. See [`CompiledSchema::validate_create`].
    #[must_use]
    pub fn validate_status_update(&self, new: &Value, old: &Value, mut errors: Vec<Error>) -> Findings {
        if let (Some(status), Some(schema)) = (new.get("status"), self.schema.properties.get("status")) {
            errors.extend(validate::part(status, old.get("status"), schema, &Path::new("status")));
        }
        validate::objects_and_lists(new, Some(old), &self.schema, &Path::root(), &mut errors);
        self.with_rules(new, Some(old), errors)
    }

    fn check(&self, new: &Value, old: Option<&Value>, mut errors: Vec<Error>) -> Findings {
        errors.extend(validate::validate(new, old, &self.schema, &Path::root()));
        self.with_rules(new, old, errors)
    }

    fn with_rules(&self, new: &Value, old: Option<&Value>, errors: Vec<Error>) -> Findings {
        let mut found = Findings { errors, ..Findings::default() };
        if self.rules.is_empty() {
            return found;
        }
        if validate::blocks_rules(&found.errors) {
            found.errors.push(validate::rules_not_checked());
        } else {
            let by_rules = self.rules.validate(new, old);
            found.errors.extend(by_rules.errors);
            found.forgiven = by_rules.forgiven;
        }
        found
    }
}
