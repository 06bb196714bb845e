//! Tables for definitions: what is wrong with them, and where.

use serde_json::json;

use super::*;

fn definition(version: Value) -> Value {
    let mut crd = json!({"metadata": {"name": "things.example.test"}, "spec": {"group": "example.test", "scope": "Cluster",
        "names": {"kind": "Thing", "plural": "things"}, "versions": [version]}});
    default_crd(&mut crd);
    prepare_create(&mut crd);
    crd
}

fn version(schema: Value) -> Value {
    json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}})
}

fn check(crd: &Value, expect: &[&str]) {
    let found: Vec<String> = validate_crd(crd).iter().map(ToString::to_string).collect();
    assert_eq!(found, expect);
}

#[test]
fn a_good_definition_is_good() {
    check(&definition(version(json!({"type": "object"}))), &[]);
}

#[test]
fn rules_are_compiled_against_their_node() {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"a": {"type": "integer"},
            "list": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}},
            "x-kubernetes-validations": [
                {"rule": "self.a > 0 && self.nope"},
                {"rule": "self.a > 0", "messageExpression": "self.a", "reason": "Odd", "fieldPath": ".b"},
                {"rule": " "}]}},
        "x-kubernetes-validations": [{"rule": "self.metadata.name != '' && self.kind == 'Thing'"}]});
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations";
    let crd = definition(version(schema.clone()));
    let fields: Vec<String> = validate_crd(&crd).iter().map(|e| e.field.to_string()).collect();
    assert_eq!(fields, [format!("{at}[1].reason"), format!("{at}[1].fieldPath"), format!("{at}[2].rule")]);

    let mut sound = schema;
    sound["properties"]["spec"]["x-kubernetes-validations"] =
        json!([{"rule": "self.nope > 0"}, {"rule": "self.a > 0", "messageExpression": "self.a"}]);
    let found: Vec<String> = validate_crd(&definition(version(sound))).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            format!("{at}[0].rule: Invalid value: {{\"Rule\":\"self.nope > 0\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope > 0\n | ....^"),
            format!("{at}[1].messageExpression: Invalid value: {{\"Rule\":\"self.a > 0\",\"Message\":\"\",\"MessageExpression\":\"self.a\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: messageExpression must evaluate to a string"),
            "spec.validation.openAPIV3Schema.properties[spec].properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[spec].properties[list]".to_owned(),
        ]
    );
}

#[test]
fn subresources_and_selectable_fields_point_into_the_schema() {
    let mut v = version(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": {"type": "string"}, "o": {"type": "object"}}}}}));
    v["subresources"] =
        json!({"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".spec.n"}});
    v["selectableFields"] =
        json!([{"jsonPath": ".spec.a"}, {"jsonPath": ".spec.o"}, {"jsonPath": ".spec.x"}, {"jsonPath": ".spec.a"}]);
    let fields: Vec<String> = validate_crd(&definition(v)).iter().map(|e| e.field.to_string()).collect();
    assert_eq!(
        fields,
        [
            "spec.subresources.scale.statusReplicasPath",
            "spec.selectableFields[1].jsonPath",
            "spec.selectableFields[2].jsonPath",
            "spec.selectableFields[3].jsonPath"
        ]
    );
}

#[test]
fn what_versions_do_not_share_is_reported_at_the_version() {
    let mut crd = definition(version(json!({"type": "object"})));
    let mut second = version(json!({"type": "string"}));
    second["name"] = "v2".into();
    second["storage"] = false.into();
    crd["spec"]["versions"].as_array_mut().unwrap().push(second);
    check(
        &crd,
        &[r#"spec.versions[1].schema.openAPIV3Schema.type: Invalid value: "string": must be object at the root"#],
    );
}

#[test]
fn a_new_storage_version_is_noted() {
    let old = definition(version(json!({"type": "object"})));
    let mut new = old.clone();
    new["spec"]["versions"][0]["name"] = "v2".into();
    new["status"] = json!("nonsense");
    prepare_update(&mut new, &old);
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    let errors = validate_crd_update(&new, &old);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].to_string(), r#"status.storedVersions[0]: Invalid value: "v1": must appear in spec.versions"#);
}

#[test]
fn defaults_of_objects_are_left_to_the_server() {
    let schema = json!({"type": "object", "default": {}, "properties": {"metadata": {"type": "object", "default": {}},
        "spec": {"type": "object", "default": {"a": 1, "b": 2}, "properties": {"a": {"type": "integer"}}}}});
    let fields: Vec<String> = validate_crd(&definition(version(schema))).iter().map(|e| e.field.to_string()).collect();
    assert_eq!(
        fields,
        ["spec.validation.openAPIV3Schema.default", "spec.validation.openAPIV3Schema.properties[metadata].default"]
    );
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "default": {"a": 1, "b": 2}, "properties": {"a": {"type": "integer"}}}}});
    check(
        &definition(version(schema)),
        &[
            r#"spec.validation.openAPIV3Schema.properties[spec].default: Invalid value: {"a":1,"b":2}: must not have unknown fields"#,
        ],
    );
}
