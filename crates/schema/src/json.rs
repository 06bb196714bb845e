//! A schema as JSON: what OpenAPI documents publish, and the inverse of [`parse`](crate::parse).

use serde_json::{Map, Value};

use crate::model::{Constraints, ListType, MapType, Rule, Schema};

/// The schema in the JSON form that `openAPIV3Schema` has.
#[must_use]
pub fn to_json(schema: &Schema) -> Value {
    Value::Object(node(schema))
}

fn node(schema: &Schema) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, value) in &schema.annotations {
        out.insert(name.clone(), value.clone());
    }
    let text = |text: &Option<String>| text.clone().map(Value::String);
    put(&mut out, "title", text(&schema.title));
    put(&mut out, "description", text(&schema.description));
    put(&mut out, "type", schema.type_.map(|t| t.name().into()));
    put(&mut out, "default", schema.default.clone());
    flag(&mut out, "nullable", schema.nullable);
    if !schema.properties.is_empty() {
        let members = schema.properties.iter().map(|(name, member)| (name.clone(), to_json(member))).collect();
        out.insert("properties".into(), Value::Object(members));
    }
    if let Some(additional) = &schema.additional_properties {
        let value = if **additional == Schema::default() { Value::Bool(true) } else { to_json(additional) };
        out.insert("additionalProperties".into(), value);
    }
    put(&mut out, "items", schema.items.as_deref().map(to_json));
    constraints(&mut out, &schema.constraints);
    flag(&mut out, "x-kubernetes-preserve-unknown-fields", schema.preserve_unknown_fields);
    flag(&mut out, "x-kubernetes-embedded-resource", schema.embedded_resource);
    flag(&mut out, "x-kubernetes-int-or-string", schema.int_or_string);
    put(&mut out, "x-kubernetes-list-type", schema.list_type.map(|t| list_type_name(t).into()));
    if !schema.list_map_keys.is_empty() {
        out.insert("x-kubernetes-list-map-keys".into(), schema.list_map_keys.clone().into());
    }
    put(
        &mut out,
        "x-kubernetes-map-type",
        schema.map_type.map(|t| match t {
            MapType::Granular => "granular".into(),
            MapType::Atomic => "atomic".into(),
        }),
    );
    if !schema.rules.is_empty() {
        out.insert("x-kubernetes-validations".into(), schema.rules.iter().map(rule).collect());
    }
    let strategy = match (schema.patch_strategy.merge, schema.patch_strategy.retain_keys) {
        (false, false) => None,
        (true, false) => Some("merge"),
        (false, true) => Some("retainKeys"),
        (true, true) => Some("merge,retainKeys"),
    };
    put(&mut out, "x-kubernetes-patch-strategy", strategy.map(Value::from));
    put(&mut out, "x-kubernetes-patch-merge-key", text(&schema.patch_merge_key));
    out
}

fn constraints(out: &mut Map<String, Value>, c: &Constraints) {
    put(out, "enum", c.enum_values.clone().map(Value::Array));
    put(out, "format", c.format.clone().map(Value::String));
    put(out, "pattern", c.pattern.clone().map(Value::String));
    put(out, "minimum", c.minimum.map(number));
    flag(out, "exclusiveMinimum", c.exclusive_minimum);
    put(out, "maximum", c.maximum.map(number));
    flag(out, "exclusiveMaximum", c.exclusive_maximum);
    put(out, "multipleOf", c.multiple_of.map(number));
    put(out, "minLength", c.min_length.map(Value::from));
    put(out, "maxLength", c.max_length.map(Value::from));
    put(out, "minItems", c.min_items.map(Value::from));
    put(out, "maxItems", c.max_items.map(Value::from));
    flag(out, "uniqueItems", c.unique_items);
    put(out, "minProperties", c.min_properties.map(Value::from));
    put(out, "maxProperties", c.max_properties.map(Value::from));
    if !c.required.is_empty() {
        out.insert("required".into(), c.required.clone().into());
    }
    for (name, branches) in [("allOf", &c.all_of), ("anyOf", &c.any_of), ("oneOf", &c.one_of)] {
        if !branches.is_empty() {
            out.insert(name.into(), branches.iter().map(to_json).collect());
        }
    }
    put(out, "not", c.not.as_deref().map(to_json));
}

fn rule(rule: &Rule) -> Value {
    let mut out = Map::new();
    out.insert("rule".into(), rule.rule.clone().into());
    for (name, text) in [
        ("message", &rule.message),
        ("messageExpression", &rule.message_expression),
        ("reason", &rule.reason),
        ("fieldPath", &rule.field_path),
    ] {
        if !text.is_empty() {
            out.insert(name.into(), text.clone().into());
        }
    }
    put(&mut out, "optionalOldSelf", rule.optional_old_self.map(Value::Bool));
    Value::Object(out)
}

/// The name which the keyword `x-kubernetes-list-type` has for it.
#[must_use]
pub fn list_type_name(list_type: ListType) -> &'static str {
    match list_type {
        ListType::Atomic => "atomic",
        ListType::Set => "set",
        ListType::Map => "map",
    }
}

fn put(out: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        out.insert(name.to_owned(), value);
    }
}

fn flag(out: &mut Map<String, Value>, name: &str, value: bool) {
    if value {
        out.insert(name.to_owned(), Value::Bool(true));
    }
}

/// A whole number without a fraction, as Go prints it.
#[expect(clippy::cast_possible_truncation, reason = "guarded by the range check")]
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { Value::from(value as i64) } else { Value::from(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Type;

    #[test]
    fn whole_numbers_have_no_fraction() {
        assert_eq!(number(10.0).to_string(), "10");
        assert_eq!(number(0.5).to_string(), "0.5");
    }

    #[test]
    fn an_empty_additional_schema_is_true() {
        let schema = Schema {
            type_: Some(Type::Object),
            additional_properties: Some(std::sync::Arc::default()),
            ..Schema::default()
        };
        assert_eq!(to_json(&schema), serde_json::json!({"type": "object", "additionalProperties": true}));
    }
}
