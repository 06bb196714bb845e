//! Defaults in a schema must be values of that schema.

use crate::cel;
use crate::field::{Error, Path};
use crate::model::Schema;
use crate::{prune, validate};

pub(super) fn check(schema: &Schema, at: &Path, errors: &mut Vec<Error>) {
    if let Some(default) = &schema.default {
        let default_at = at.child("default");
        let mut pruned = default.clone();
        let options = prune::Options { resource_root: schema.embedded_resource };
        prune::prune(&mut pruned, schema, options);
        if pruned != *default {
            errors.push(Error::invalid(&default_at, default.clone(), "must not have unknown fields"));
        }
        let found = validate::part(default, None, schema, &default_at);
        if found.is_empty() {
            let broken = cel::Compiled::new(schema).validate_default(default);
            errors.extend(broken.into_iter().map(|error| validate::below(&default_at, error)));
        }
        errors.extend(found);
    }
    for (name, member) in &schema.properties {
        check(member, &at.child("properties").key(name), errors);
    }
    if let Some(items) = &schema.items {
        check(items, &at.child("items"), errors);
    }
    if let Some(additional) = &schema.additional_properties {
        check(additional, &at.child("additionalProperties"), errors);
    }
}
