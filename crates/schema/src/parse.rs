//! JSON of `openAPIV3Schema` to [`Schema`], with the errors Kubernetes reports for what it does not allow.
//!
//! [`read`] takes every keyword and collects what is wrong with single nodes; [`structural`] adds the rules that make
//! a schema structural ([`crate::structural`]). Field names in errors are as in the CRD.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::field::{Error, Path};
use crate::model::{Constraints, ListType, MapType, PatchStrategy, Rule, Schema, Type};

/// Deepest nesting of schemas that is read; real ones stay below 40.
const MAX_DEPTH: usize = 120;

/// Reads a schema and checks that it is structural.
///
/// # Errors
/// Everything that keeps the schema from being structural, with paths relative to the schema itself.
pub fn structural(json: &Value) -> Result<Schema, Vec<Error>> {
    let root = Path::root();
    let mut errors = Vec::new();
    let schema = read(json, &root, &mut errors);
    let breaches = crate::structural::check_read(&schema, &root, &errors);
    errors.extend(breaches);
    if errors.is_empty() { Ok(schema) } else { Err(errors) }
}

/// Reads a schema, whatever it says; what is wrong with single nodes goes to `errors`.
pub fn read(json: &Value, path: &Path, errors: &mut Vec<Error>) -> Schema {
    Reader { errors, depth: 0 }.node(json, path)
}

struct Reader<'a> {
    errors: &'a mut Vec<Error>,
    depth: usize,
}

impl Reader<'_> {
    fn node(&mut self, json: &Value, path: &Path) -> Schema {
        let Some(keywords) = json.as_object() else {
            self.errors.push(Error::invalid(path, json.clone(), "must be a schema object"));
            return Schema::default();
        };
        if self.depth >= MAX_DEPTH {
            self.errors.push(Error::forbidden(path, format!("must not be nested more than {MAX_DEPTH} levels deep")));
            return Schema::default();
        }
        self.depth += 1;
        let mut schema = Schema { constraints: self.constraints(keywords, path), ..Schema::default() };
        for (name, value) in keywords {
            if !value.is_null() || name == "default" {
                self.keyword(&mut schema, name, value, path);
            }
        }
        self.combinations(keywords, &schema, path);
        self.depth -= 1;
        schema
    }

    fn keyword(&mut self, schema: &mut Schema, name: &str, value: &Value, path: &Path) {
        let at = path.child(name);
        match name {
            "type" => schema.type_ = self.type_(value, &at),
            "title" => schema.title = self.text(value, &at),
            "description" => schema.description = self.text(value, &at),
            "nullable" => schema.nullable = self.flag(value, &at),
            "default" if !value.is_null() => schema.default = Some(value.clone()),
            "properties" => {
                for (member, json) in self.members(value, &at) {
                    let own = self.node(json, &at.key(member));
                    schema.properties.insert(member.clone(), Arc::new(own));
                }
            }
            "additionalProperties" => match value {
                Value::Bool(true) => schema.additional_properties = Some(Arc::default()),
                Value::Bool(false) => {
                    self.errors.push(Error::forbidden(&at, "additionalProperties cannot be set to false"));
                }
                _ => schema.additional_properties = Some(Arc::new(self.node(value, &at))),
            },
            "items" => {
                if value.is_array() {
                    self.errors.push(Error::forbidden(&at, "items must be a schema object and not an array"));
                } else {
                    schema.items = Some(Arc::new(self.node(value, &at)));
                }
            }
            "x-kubernetes-preserve-unknown-fields" => {
                schema.preserve_unknown_fields = self.flag(value, &at);
                if value == &Value::Bool(false) {
                    self.errors.push(Error::invalid(&at, false, "must be true or undefined"));
                }
            }
            "x-kubernetes-embedded-resource" => schema.embedded_resource = self.flag(value, &at),
            "x-kubernetes-int-or-string" => schema.int_or_string = self.flag(value, &at),
            "x-kubernetes-list-map-keys" => schema.list_map_keys = self.texts(value, &at),
            "x-kubernetes-list-type" => match value.as_str() {
                Some("atomic") => schema.list_type = Some(ListType::Atomic),
                Some("set") => schema.list_type = Some(ListType::Set),
                Some("map") => schema.list_type = Some(ListType::Map),
                _ => self.errors.push(Error::not_supported_in_order(&at, value.clone(), ["atomic", "set", "map"])),
            },
            "x-kubernetes-map-type" => match value.as_str() {
                Some("granular") => schema.map_type = Some(MapType::Granular),
                Some("atomic") => schema.map_type = Some(MapType::Atomic),
                _ => self.errors.push(Error::not_supported_in_order(&at, value.clone(), ["atomic", "granular"])),
            },
            "x-kubernetes-validations" => schema.rules = self.rules(value, &at),
            "x-kubernetes-patch-merge-key" => schema.patch_merge_key = self.text(value, &at),
            "x-kubernetes-patch-strategy" => {
                let names: Vec<&str> = value.as_str().unwrap_or_default().split(',').collect();
                schema.patch_strategy =
                    PatchStrategy { merge: names.contains(&"merge"), retain_keys: names.contains(&"retainKeys") };
            }
            "$schema" | "externalDocs" | "example" => {
                schema.annotations.insert(name.to_owned(), value.clone());
            }
            "id" => self.unsupported(name, value.as_str().is_some_and(|id| !id.is_empty()), &at),
            "$ref" | "additionalItems" | "dependencies" => self.unsupported(name, true, &at),
            "definitions" | "patternProperties" => {
                self.unsupported(name, value.as_object().is_some_and(|m| !m.is_empty()), &at);
            }
            _ => {}
        }
    }

    fn unsupported(&mut self, name: &str, is_set: bool, at: &Path) {
        if is_set {
            self.errors.push(Error::forbidden(at, format!("{name} is not supported")));
        }
    }

    fn constraints(&mut self, keywords: &Map<String, Value>, path: &Path) -> Constraints {
        let mut c = Constraints::default();
        for (name, value) in keywords {
            if value.is_null() {
                continue;
            }
            let at = path.child(name);
            match name.as_str() {
                "enum" => match value.as_array() {
                    Some(values) if !values.is_empty() => c.enum_values = Some(values.clone()),
                    Some(_) => {}
                    None => self.wrong(value, &at, "a list"),
                },
                "format" => c.format = self.text(value, &at).filter(|f| !f.is_empty()),
                "pattern" => {
                    c.pattern = self.text(value, &at).filter(|p| !p.is_empty());
                    if let Some(pattern) = &c.pattern
                        && let Err(error) = crate::pattern::compile(pattern)
                    {
                        let detail = format!("must be a valid regular expression, but isn't: {error}");
                        self.errors.push(Error::invalid(&at, pattern.clone(), detail));
                    }
                }
                "minimum" => c.minimum = self.number(value, &at),
                "exclusiveMinimum" => c.exclusive_minimum = self.flag(value, &at),
                "maximum" => c.maximum = self.number(value, &at),
                "exclusiveMaximum" => c.exclusive_maximum = self.flag(value, &at),
                "multipleOf" => c.multiple_of = self.number(value, &at),
                "minLength" => c.min_length = self.count(value, &at),
                "maxLength" => c.max_length = self.count(value, &at),
                "minItems" => c.min_items = self.count(value, &at),
                "maxItems" => c.max_items = self.count(value, &at),
                "uniqueItems" => {
                    c.unique_items = self.flag(value, &at);
                    if c.unique_items {
                        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
                        self.errors.push(Error::forbidden(&at, detail));
                    }
                }
                "minProperties" => c.min_properties = self.count(value, &at),
                "maxProperties" => c.max_properties = self.count(value, &at),
                "required" => c.required = self.texts(value, &at),
                "allOf" => c.all_of = self.branches(value, &at),
                "anyOf" => c.any_of = self.branches(value, &at),
                "oneOf" => c.one_of = self.branches(value, &at),
                "not" => c.not = Some(Arc::new(self.node(value, &at))),
                _ => {}
            }
        }
        c
    }

    fn branches(&mut self, value: &Value, at: &Path) -> Vec<Schema> {
        match value.as_array() {
            Some(items) => items.iter().enumerate().map(|(i, json)| self.node(json, &at.index(i))).collect(),
            None => {
                self.wrong(value, at, "a list");
                Vec::new()
            }
        }
    }

    fn rules(&mut self, value: &Value, at: &Path) -> Vec<Rule> {
        let Some(items) = value.as_array() else {
            self.wrong(value, at, "a list");
            return Vec::new();
        };
        let mut rules = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            if !item.is_object() {
                self.wrong(item, &at.index(index), "an object");
            }
            rules.push(Rule {
                rule: text("rule"),
                message: text("message"),
                message_expression: text("messageExpression"),
                reason: text("reason"),
                field_path: text("fieldPath"),
                optional_old_self: item.get("optionalOldSelf").and_then(Value::as_bool),
            });
        }
        rules
    }

    /// What may not stand together on one node.
    fn combinations(&mut self, keywords: &Map<String, Value>, schema: &Schema, path: &Path) {
        let additional = keywords.get("additionalProperties");
        if !schema.properties.is_empty() && additional.is_some_and(|a| !a.is_null() && a != &Value::Bool(true)) {
            let detail = "additionalProperties and properties are mutual exclusive";
            self.errors.push(Error::forbidden(&path.child("additionalProperties"), detail));
        }
        let type_name = schema.type_.map_or("", Type::name);
        for (keyword, type_) in [("x-kubernetes-map-type", Type::Object), ("x-kubernetes-list-type", Type::Array)] {
            if keywords.get(keyword).is_some_and(|v| !v.is_null()) && schema.type_ != Some(type_) {
                let detail = format!("must be {} if {keyword} is specified", type_.name());
                self.errors.push(required_or_invalid(&path.child("type"), type_name, detail));
            }
        }
        let keys_at = path.child("x-kubernetes-list-map-keys");
        if !schema.list_map_keys.is_empty() && !schema.is_map_list() {
            let named = keywords.get("x-kubernetes-list-type").and_then(Value::as_str).unwrap_or_default();
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            self.errors.push(required_or_invalid(&path.child("x-kubernetes-list-type"), named, detail.to_owned()));
        }
        if schema.is_map_list() {
            self.map_list(schema, path, &keys_at);
        }
        if let (Some(ListType::Set), Some(items)) = (schema.list_type, schema.items.as_deref()) {
            self.set_list(items, &path.child("items"));
        }
    }

    fn map_list(&mut self, schema: &Schema, path: &Path, keys_at: &Path) {
        let items_at = path.child("items");
        if schema.list_map_keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.errors.push(Error::required(keys_at, detail));
        }
        let Some(items) = schema.items.as_deref() else {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            self.errors.push(Error::required(&items_at, detail));
            return;
        };
        if items.type_ != Some(Type::Object) {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            let name = items.type_.map_or("", Type::name);
            self.errors.push(Error::invalid(&items_at.child("type"), name, detail));
            return;
        }
        if items.nullable {
            let detail = "cannot be nullable when x-kubernetes-list-type is map";
            self.errors.push(Error::forbidden(&items_at.child("nullable"), detail));
        }
        for (index, key) in schema.list_map_keys.iter().enumerate() {
            if schema.list_map_keys[..index].contains(key) {
                let detail = "must not contain duplicate entries";
                self.errors.push(Error::invalid(keys_at, schema.list_map_keys.clone(), detail));
            }
            let Some(member) = items.properties.get(key) else {
                let detail = "entries must all be names of item properties";
                self.errors.push(Error::invalid(keys_at, schema.list_map_keys.clone(), detail));
                continue;
            };
            let member_at = items_at.child("properties").key(key);
            if matches!(member.type_, Some(Type::Array | Type::Object)) {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                self.errors.push(Error::invalid(&member_at.child("type"), "object", detail));
            }
            if member.default.is_none() && !items.constraints.required.contains(key) {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.push(Error::required(&member_at.child("default"), detail));
            }
            if member.nullable {
                let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.errors.push(Error::forbidden(&member_at.child("nullable"), detail));
            }
        }
    }

    fn set_list(&mut self, items: &Schema, items_at: &Path) {
        if items.nullable {
            let detail = "cannot be nullable when x-kubernetes-list-type is set";
            self.errors.push(Error::forbidden(&items_at.child("nullable"), detail));
        }
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        match items.type_ {
            Some(Type::Object) if items.map_type != Some(MapType::Atomic) => {
                let given = items.map_type.map_or("", |_| "granular");
                let at = items_at.child("x-kubernetes-map-type");
                self.errors.push(required_or_invalid(&at, given, detail.to_owned()));
            }
            Some(Type::Array) if !matches!(items.list_type, None | Some(ListType::Atomic)) => {
                let given = items.list_type.map_or("", crate::json::list_type_name);
                self.errors.push(Error::invalid(&items_at.child("x-kubernetes-list-type"), given, detail));
            }
            _ => {}
        }
    }

    fn type_(&mut self, value: &Value, at: &Path) -> Option<Type> {
        match value.as_str() {
            Some("") => None,
            Some("null") => {
                let known = ["array", "boolean", "integer", "number", "object", "string"];
                self.errors.push(Error::not_supported_in_order(at, "null", known));
                let detail = "type cannot be set to null, use nullable as an alternative";
                self.errors.push(Error::forbidden(at, detail));
                None
            }
            Some(name) => Type::from_name(name).or_else(|| {
                let known = ["array", "boolean", "integer", "number", "object", "string"];
                self.errors.push(Error::not_supported_in_order(at, name, known));
                None
            }),
            None => {
                self.wrong(value, at, "a string");
                None
            }
        }
    }

    fn wrong(&mut self, value: &Value, at: &Path, expected: &str) {
        self.errors.push(Error::invalid(at, value.clone(), format!("must be {expected}")));
    }

    fn text(&mut self, value: &Value, at: &Path) -> Option<String> {
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(value, at, "a string");
        }
        text.filter(|t| !t.is_empty())
    }

    fn texts(&mut self, value: &Value, at: &Path) -> Vec<String> {
        let texts: Option<Vec<String>> =
            value.as_array().and_then(|items| items.iter().map(|i| i.as_str().map(str::to_owned)).collect());
        texts.unwrap_or_else(|| {
            self.wrong(value, at, "a list of strings");
            Vec::new()
        })
    }

    fn flag(&mut self, value: &Value, at: &Path) -> bool {
        value.as_bool().unwrap_or_else(|| {
            self.wrong(value, at, "a boolean");
            false
        })
    }

    fn number(&mut self, value: &Value, at: &Path) -> Option<f64> {
        if !value.is_number() {
            self.wrong(value, at, "a number");
        }
        value.as_f64()
    }

    #[expect(clippy::cast_possible_truncation, reason = "only for floats without a fraction")]
    fn count(&mut self, value: &Value, at: &Path) -> Option<i64> {
        let count = value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64));
        if count.is_none() {
            self.wrong(value, at, "an integer");
        }
        count
    }

    fn members<'v>(&mut self, value: &'v Value, at: &Path) -> Vec<(&'v String, &'v Value)> {
        match value.as_object() {
            Some(members) => members.iter().collect(),
            None => {
                self.wrong(value, at, "an object");
                Vec::new()
            }
        }
    }
}

/// What Kubernetes says of a keyword that must have one certain value: missing, or wrong.
fn required_or_invalid(at: &Path, given: &str, detail: String) -> Error {
    if given.is_empty() { Error::required(at, detail) } else { Error::invalid(at, given, detail) }
}
