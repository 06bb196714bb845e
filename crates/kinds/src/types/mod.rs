//! The built-in types: what the published API types say, joined with the facts they lack.
//!
//! Main type: [`Types`], a lazy cache of two views of each type: its [`Schema`] (merging, validation) and its
//! [`Struct`] (decoding as Go's typed decoders do). Flow: `JsonSchema` of k8s-openapi → definitions → both views; a
//! type is built once, when a kind that needs it is first used, and shared by all that refer to it.

pub(crate) mod overlay;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kubetask_schema::model::{Schema, Type};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};

use overlay::Facts;

/// Where references point in generated documents.
const REFS: &str = "#/components/schemas/";

/// Runs the generator over one root type.
pub(crate) type Generate = fn(&mut SchemaGenerator);

/// Both views of a type.
pub(crate) type Built = (Arc<Schema>, Node);

/// How one value is decoded.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// Anything at all.
    Any,
    /// Any object (`runtime.RawExtension`, `FieldsV1`).
    AnyObject,
    Bool,
    Int32,
    Int64,
    Number,
    String,
    /// Base64 text.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    Quantity,
    IntOrString,
    /// A schema, or something else in its place (`JSONSchemaPropsOrBool` and its like).
    StructOr(Node),
    List(Box<Shape>),
    Map(Box<Shape>),
    Struct(Node),
}

/// A struct type that may still be under construction, since types may refer to themselves.
#[derive(Clone)]
pub(crate) struct Node(Arc<OnceLock<Struct>>);

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Types may be recursive: print the name only.
        f.write_str(self.get().map_or("?", |s| &s.name))
    }
}

impl Node {
    pub(crate) fn get(&self) -> Option<&Struct> {
        self.0.get()
    }
}

/// A struct: its fields, sorted by name.
#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) name: Box<str>,
    pub(crate) fields: Box<[Field]>,
}

impl Struct {
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|f| (*f.name).cmp(name)).ok()?;
        self.fields.get(at)
    }
}

/// One field of a struct.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) shape: Shape,
    /// Empty values are kept: the Go field is a pointer or has no `omitempty`.
    pub(crate) keep: bool,
    /// Written even when absent, as the empty value.
    pub(crate) emit: bool,
    /// Written as null when absent.
    pub(crate) null: bool,
}

/// The lazy cache.
#[derive(Default)]
pub(crate) struct Types {
    schemas: Mutex<HashMap<String, Arc<Schema>>>,
    structs: Mutex<HashMap<String, Node>>,
}

/// The one cache of the process: types are facts, the same for every server in it.
pub(crate) fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(Types::default)
}

/// The definitions of a root type and everything it refers to, as the generator makes them.
pub(crate) fn definitions(roots: &[Generate]) -> Map<String, Value> {
    let mut settings = SchemaSettings::openapi3();
    settings.transforms.clear();
    let mut generator = settings.into_generator();
    for root in roots {
        root(&mut generator);
    }
    generator.take_definitions(false)
}

impl Types {
    /// Both views of a root type.
    pub(crate) fn load(&self, name: &str, generate: Generate) -> Built {
        // Generating is the expensive part; a second thread doing it at the same time is harmless.
        let definitions = definitions(&[generate]);
        let schema = {
            let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
            Builder { definitions: &definitions, path: Vec::new() }.named(name, &mut schemas)
        };
        let node = {
            let mut structs = self.structs.lock().unwrap_or_else(PoisonError::into_inner);
            build_struct(name, &definitions, &mut structs)
        };
        (schema, node)
    }
}

fn reference(node: &Value) -> Option<&str> {
    node.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(REFS))
}

/// What the special scalar types are called.
fn special(name: &str) -> Option<Shape> {
    Some(match name {
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Shape::Time,
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Shape::MicroTime,
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrString,
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" | "io.k8s.apimachinery.pkg.runtime.RawExtension" => {
            Shape::AnyObject
        }
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON" => Shape::Any,
        _ => return None,
    })
}

const PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

fn build_struct(name: &str, definitions: &Map<String, Value>, structs: &mut HashMap<String, Node>) -> Node {
    if let Some(node) = structs.get(name) {
        return node.clone();
    }
    let node = Node(Arc::new(OnceLock::new()));
    structs.insert(name.to_owned(), node.clone());
    let definition = definitions.get(name).unwrap_or(&Value::Null);
    let required: Vec<&str> = strings(&definition["required"]).collect();
    let mut fields = Vec::new();
    if let Some(properties) = definition["properties"].as_object() {
        for (field, schema) in properties {
            let facts = overlay::field(name, field);
            let shape = shape(schema, definitions, structs);
            let required = required.contains(&field.as_str());
            let scalar = matches!(
                shape,
                Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Number | Shape::String | Shape::Struct(_)
            );
            let top_level = field == "apiVersion" || field == "kind";
            fields.push(Field {
                name: field.as_str().into(),
                keep: facts.keep || facts.emit || facts.null || required,
                emit: !top_level && (facts.emit || (required && scalar)),
                null: facts.null,
                shape,
            });
        }
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    // Set once: the name was not in the cache, and the cache is locked.
    let _ = node.0.set(Struct { name: name.into(), fields: fields.into() });
    node
}

fn shape(schema: &Value, definitions: &Map<String, Value>, structs: &mut HashMap<String, Node>) -> Shape {
    if let Some(name) = reference(schema) {
        if let Some(special) = special(name) {
            return special;
        }
        if let Some(base) = name.strip_prefix(PROPS)
            && base.starts_with("Or")
        {
            return if base == "OrStringArray" {
                Shape::Any
            } else {
                Shape::StructOr(build_struct(PROPS, definitions, structs))
            };
        }
        return Shape::Struct(build_struct(name, definitions, structs));
    }
    match schema["type"].as_str() {
        Some("boolean") => Shape::Bool,
        Some("integer") if schema["format"] == "int32" => Shape::Int32,
        Some("integer") => Shape::Int64,
        Some("number") => Shape::Number,
        Some("string") if schema["format"] == "byte" => Shape::Bytes,
        Some("string") => Shape::String,
        Some("array") => Shape::List(Box::new(shape(&schema["items"], definitions, structs))),
        Some("object") if schema.get("additionalProperties").is_some() => {
            Shape::Map(Box::new(shape(&schema["additionalProperties"], definitions, structs)))
        }
        Some("object") => Shape::AnyObject,
        _ => Shape::Any,
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Turns definitions into schemas; `path` holds the types under construction.
struct Builder<'a> {
    definitions: &'a Map<String, Value>,
    path: Vec<String>,
}

impl Builder<'_> {
    fn named(&mut self, name: &str, done: &mut HashMap<String, Arc<Schema>>) -> Arc<Schema> {
        if let Some(schema) = done.get(name) {
            return Arc::clone(schema);
        }
        // A type that refers to itself (JSONSchemaProps) is open from the second level on.
        if self.path.iter().any(|p| p == name) {
            return Arc::new(Schema { type_: Some(Type::Object), preserve_unknown_fields: true, ..Schema::default() });
        }
        self.path.push(name.to_owned());
        let definition = self.definitions.get(name).unwrap_or(&Value::Null);
        let mut schema = match special(name) {
            Some(Shape::Quantity | Shape::IntOrString) => Schema { int_or_string: true, ..Schema::default() },
            Some(Shape::AnyObject) => {
                Schema { type_: Some(Type::Object), preserve_unknown_fields: true, ..Schema::default() }
            }
            Some(Shape::Any) => Schema { preserve_unknown_fields: true, ..Schema::default() },
            _ if name.starts_with(PROPS) && name != PROPS => {
                Schema { preserve_unknown_fields: true, ..Schema::default() }
            }
            _ => self.node(definition, name, done),
        };
        overlay::type_(name).apply(&mut schema);
        self.path.pop();
        let schema = Arc::new(schema);
        done.insert(name.to_owned(), Arc::clone(&schema));
        schema
    }

    fn node(&mut self, definition: &Value, owner: &str, done: &mut HashMap<String, Arc<Schema>>) -> Schema {
        let mut schema = Schema {
            type_: match definition["type"].as_str() {
                Some("object") => Some(Type::Object),
                Some("array") => Some(Type::Array),
                Some("string") => Some(Type::String),
                Some("integer") => Some(Type::Integer),
                Some("number") => Some(Type::Number),
                Some("boolean") => Some(Type::Boolean),
                _ => None,
            },
            ..Schema::default()
        };
        schema.constraints.format = definition["format"].as_str().map(str::to_owned);
        schema.constraints.required = strings(&definition["required"]).map(str::to_owned).collect();
        if let Some(properties) = definition["properties"].as_object() {
            for (field, property) in properties {
                let facts = overlay::field(owner, field);
                let child = self.child(property, &facts, done);
                schema.properties.insert(field.clone(), child);
            }
        }
        if let Some(items) = definition.get("items") {
            schema.items = Some(self.child(items, &Facts::default(), done));
        }
        if let Some(values) = definition.get("additionalProperties") {
            schema.additional_properties = Some(self.child(values, &Facts::default(), done));
        }
        schema
    }

    fn child(&mut self, schema: &Value, facts: &Facts, done: &mut HashMap<String, Arc<Schema>>) -> Arc<Schema> {
        let base = match reference(schema) {
            Some(name) => self.named(name, done),
            None => Arc::new(self.node(schema, "", done)),
        };
        if facts.says_nothing_about_schemas() {
            return base;
        }
        let mut own = Arc::unwrap_or_clone(base);
        facts.apply(&mut own);
        Arc::new(own)
    }
}

#[cfg(test)]
mod tests {
    use kubetask_schema::model::{ListType, MapType};

    use super::*;

    fn pod() -> Arc<Schema> {
        let (schema, _) = types().load("io.k8s.api.core.v1.Pod", |g| {
            g.subschema_for::<k8s_openapi::api::core::v1::Pod>();
        });
        schema
    }

    #[test]
    fn joins_published_types_and_overlay() {
        let pod = pod();
        let spec = &pod.properties["spec"];
        let containers = &spec.properties["containers"];
        assert_eq!(containers.list_type, Some(ListType::Map));
        assert_eq!(containers.list_map_keys, ["name"]);
        assert_eq!(containers.patch_merge_key.as_deref(), Some("name"));
        assert!(containers.patch_strategy.merge);
        assert_eq!(spec.properties["nodeSelector"].map_type, Some(MapType::Atomic));
        assert!(spec.properties["volumes"].patch_strategy.retain_keys);
        let ports = containers.items.as_ref().unwrap().properties["ports"].clone();
        assert_eq!(ports.items.as_ref().unwrap().properties["protocol"].default, Some(Value::from("TCP")));
        let owners = &pod.properties["metadata"].properties["ownerReferences"];
        assert_eq!(owners.items.as_ref().unwrap().map_type, Some(MapType::Atomic));
        assert!(pod.description.is_none());
    }

    #[test]
    fn shares_types() {
        let pod = pod();
        let (job, _) = types().load("io.k8s.api.batch.v1.Job", |g| {
            g.subschema_for::<k8s_openapi::api::batch::v1::Job>();
        });
        let template = job.properties["spec"].properties["template"].properties["spec"].clone();
        assert!(Arc::ptr_eq(&template, &pod.properties["spec"]));
    }

    #[test]
    fn every_fact_is_about_something_that_exists() {
        let bodies = ["TokenRequest", "Binding", "Eviction"].into_iter().filter_map(crate::registry::body);
        let all: Vec<Generate> = crate::registry().iter().chain(bodies).map(|k| k.generate).collect();
        let definitions = definitions(&all);
        for (name, _) in overlay::all() {
            let name = format!("io.k8s.{name}");
            let known = definitions.contains_key(&name)
                || name
                    .rsplit_once('.')
                    .and_then(|(t, f)| definitions.get(t).map(|d| d["properties"].get(f).is_some()))
                    .unwrap_or(false);
            assert!(known, "overlay names {name}, which no built-in kind has");
        }
    }
}
