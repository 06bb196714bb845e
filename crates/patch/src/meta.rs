//! The schema of `metadata`. A CRD says at most what a name looks like; how labels, finalizers and owner references
//! merge is the same for every kind.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use kubetask_schema::model::{Constraints, ListType, MapType, PatchStrategy, Schema, Type};

static OBJECT_META: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(make_object_meta()));

/// The schema of `metadata` of every kind.
#[must_use]
pub fn object_meta() -> &'static Schema {
    &OBJECT_META
}

/// `schema` with everything that is known of `apiVersion`, `kind` and `metadata` of any object filled in. What the
/// schema itself says of them (constraints on the name, descriptions) stays.
#[must_use]
pub fn with_object_meta(schema: &Schema) -> Schema {
    let mut out = schema.clone();
    for name in ["apiVersion", "kind"] {
        out.properties.entry(name.to_owned()).or_insert_with(|| Arc::new(scalar(Type::String)));
    }
    let merged = match schema.properties.get("metadata") {
        None => Arc::clone(&OBJECT_META),
        Some(declared) => {
            let mut merged = Schema::clone(&OBJECT_META);
            merged.description.clone_from(&declared.description);
            merged.constraints = declared.constraints.clone();
            merged.rules.clone_from(&declared.rules);
            for (name, field) in &declared.properties {
                let known = merged.properties.entry(name.clone()).or_insert_with(|| Arc::clone(field));
                let known = Arc::make_mut(known);
                known.constraints = field.constraints.clone();
                if field.description.is_some() {
                    known.description.clone_from(&field.description);
                }
            }
            Arc::new(merged)
        }
    };
    out.properties.insert("metadata".to_owned(), merged);
    out
}

fn scalar(type_: Type) -> Schema {
    Schema { type_: Some(type_), ..Schema::default() }
}

fn time() -> Schema {
    let constraints = Constraints { format: Some("date-time".to_owned()), ..Constraints::default() };
    Schema { constraints, ..scalar(Type::String) }
}

fn list(items: Schema) -> Schema {
    Schema { type_: Some(Type::Array), items: Some(Arc::new(items)), ..Schema::default() }
}

fn object<const N: usize>(fields: [(&str, Schema); N]) -> Schema {
    let properties: BTreeMap<_, _> =
        fields.into_iter().map(|(name, field)| (name.to_owned(), Arc::new(field))).collect();
    Schema { type_: Some(Type::Object), properties, ..Schema::default() }
}

fn string_map() -> Schema {
    Schema { additional_properties: Some(Arc::new(scalar(Type::String))), ..object([]) }
}

fn make_object_meta() -> Schema {
    let merge = PatchStrategy { merge: true, retain_keys: false };
    let string = || scalar(Type::String);
    object([
        ("annotations", string_map()),
        ("creationTimestamp", time()),
        ("deletionGracePeriodSeconds", scalar(Type::Integer)),
        ("deletionTimestamp", time()),
        ("finalizers", Schema { list_type: Some(ListType::Set), patch_strategy: merge, ..list(string()) }),
        ("generateName", string()),
        ("generation", scalar(Type::Integer)),
        ("labels", string_map()),
        ("managedFields", list(managed_fields_entry())),
        ("name", string()),
        ("namespace", string()),
        (
            "ownerReferences",
            Schema {
                list_type: Some(ListType::Map),
                list_map_keys: vec!["uid".to_owned()],
                patch_strategy: merge,
                patch_merge_key: Some("uid".to_owned()),
                ..list(owner_reference())
            },
        ),
        ("resourceVersion", string()),
        ("selfLink", string()),
        ("uid", string()),
    ])
}

fn owner_reference() -> Schema {
    let fields = object([
        ("apiVersion", scalar(Type::String)),
        ("blockOwnerDeletion", scalar(Type::Boolean)),
        ("controller", scalar(Type::Boolean)),
        ("kind", scalar(Type::String)),
        ("name", scalar(Type::String)),
        ("uid", scalar(Type::String)),
    ]);
    let required = ["apiVersion", "kind", "name", "uid"].map(str::to_owned).to_vec();
    let constraints = Constraints { required, ..Constraints::default() };
    Schema { map_type: Some(MapType::Atomic), constraints, ..fields }
}

fn managed_fields_entry() -> Schema {
    object([
        ("apiVersion", scalar(Type::String)),
        ("fieldsType", scalar(Type::String)),
        ("fieldsV1", object([])),
        ("manager", scalar(Type::String)),
        ("operation", scalar(Type::String)),
        ("subresource", scalar(Type::String)),
        ("time", time()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crd_says_of_its_name_stays() {
        let mut name = scalar(Type::String);
        name.constraints.max_length = Some(20);
        let crd = object([("metadata", object([("name", name)])), ("spec", object([]))]);

        let schema = with_object_meta(&crd);

        let metadata = &schema.properties["metadata"];
        assert_eq!(metadata.properties["name"].constraints.max_length, Some(20));
        assert_eq!(metadata.properties["finalizers"].list_type, Some(ListType::Set));
        assert!(schema.properties.contains_key("kind") && schema.properties.contains_key("spec"));
    }
}
