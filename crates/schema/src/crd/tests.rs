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
    assert_eq!(
        errors[0].to_string(),
        r#"status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions"#
    );
}

#[test]
fn conversions_by_webhook_are_checked() {
    let with = |conversion: Value| {
        let mut crd = definition(version(json!({"type": "object"})));
        crd["spec"]["conversion"] = conversion;
        default_crd(&mut crd);
        crd
    };
    let webhook = |client: Value, versions: Value| {
        with(json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": versions}}))
    };
    check(&webhook(json!({"url": "https://a.test/convert"}), json!(["v1"])), &[]);
    check(&webhook(json!({"service": {"name": "s", "namespace": "n", "path": "/a/b"}}), json!(["v9", "v1beta1"])), &[]);
    check(
        &with(json!({"strategy": "Webhook"})),
        &[
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ],
    );
    check(
        &with(json!({"strategy": "None", "webhook": {"clientConfig": {}, "conversionReviewVersions": ["v1"]}})),
        &[
            "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook",
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
        ],
    );
    check(
        &webhook(json!({}), json!(["v2", "v2"])),
        &[
            "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required",
            r#"spec.conversion.conversionReviewVersions[1]: Invalid value: "v2": duplicate version"#,
            r#"spec.conversion.conversionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1"#,
        ],
    );
    check(
        &webhook(json!({"url": "http://u:p@/x?q=1#f"}), json!(["v1"])),
        &[
            r#"spec.conversion.webhookClientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]"#,
            r#"spec.conversion.webhookClientConfig.url: Invalid value: "": host must be specified; desired format: https://host[/path]"#,
            r#"spec.conversion.webhookClientConfig.url: Invalid value: "u:p": user information is not permitted in the URL"#,
            r#"spec.conversion.webhookClientConfig.url: Invalid value: "f": fragments are not permitted in the URL"#,
            r#"spec.conversion.webhookClientConfig.url: Invalid value: "q=1": query parameters are not permitted in the URL"#,
        ],
    );
    check(
        &webhook(json!({"service": {"name": "s", "path": "a//b", "port": 0}}), json!(["v1"])),
        &[
            "spec.conversion.webhookClientConfig.service.name: Required value: service name is required",
            "spec.conversion.webhookClientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            r#"spec.conversion.webhookClientConfig.service.path: Invalid value: "a//b": must start with a '/'"#,
            r#"spec.conversion.webhookClientConfig.service.path: Invalid value: "a//b": segment[0] may not be empty"#,
            r#"spec.conversion.webhookClientConfig.service.path: Invalid value: "a//b": segment[1] may not be empty"#,
        ],
    );
}

#[test]
fn smaller_things_are_checked() {
    let mut v = version(json!({"type": "string"}));
    v["subresources"] = json!({"status": {}});
    v["deprecationWarning"] = json!("");
    check(
        &definition(v),
        &[
            r#"spec.versions[0].deprecationWarning: Invalid value: "": can only be set for deprecated versions"#,
            r#"spec.validation.openAPIV3Schema.type: Invalid value: "string": only "object" is allowed as the type at the root of the schema if the status subresource is enabled"#,
            r#"spec.validation.openAPIV3Schema.type: Invalid value: "string": must be object at the root"#,
        ],
    );
    let schema = json!({"type": "object", "properties": {"kind": {"type": "string", "default": "x"},
        "e": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
            "metadata": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}});
    let found: Vec<String> = validate_crd(&definition(version(schema))).iter().map(ToString::to_string).collect();
    let at = "spec.validation.openAPIV3Schema.properties";
    assert!(found.contains(&format!("{at}[kind].default: Forbidden: must not be set in top-level kind")), "{found:?}");
    let embedded = format!(
        "{at}[e].properties[metadata].x-kubernetes-embedded-resource: Forbidden: must not be used inside of resource meta"
    );
    assert!(found.contains(&embedded), "{found:?}");
    check(
        &definition(version(json!({"type": "object", "properties": {"a": {"type": "integer",
            "x-kubernetes-validations": [{"rule": "self > 0", "optionalOldSelf": true}]}}}))),
        &[
            "spec.validation.openAPIV3Schema.properties[a].x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ],
    );
}

#[test]
fn defaults_are_held_to_the_rules_of_their_schema() {
    let schema = json!({"type": "object", "properties": {"d": {"type": "string", "maxLength": 5, "default": "b",
        "x-kubernetes-validations": [{"rule": "self == 'a'"}]}}});
    check(
        &definition(version(schema)),
        &[r#"spec.validation.openAPIV3Schema.properties[d].default: Invalid value: "b": failed rule: self == 'a'"#],
    );
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
