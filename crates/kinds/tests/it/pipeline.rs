//! Creation: what becomes of a body.

use kubetask_kinds::{Kind, body, lookup};
use serde_json::{Value, json};

/// A kind by `group/plural`.
pub(crate) fn kind(name: &str) -> &'static Kind {
    let (group, plural) = name.rsplit_once('/').unwrap_or(("", name));
    lookup(group, "v1", plural).unwrap()
}

/// What the API server does with a body before it stores it; an error is one line a cause, sorted.
pub(crate) fn create(name: &str, body: Value) -> Result<Value, Vec<String>> {
    let kind = kind(name);
    let decoded = kind.decode(body).map_err(|e| vec![e.to_string()])?;
    if !decoded.unknown.is_empty() {
        return Err(decoded.unknown);
    }
    let mut object = decoded.object;
    kind.default(&mut object);
    kind.admit_create(&mut object);
    let meta = &mut object["metadata"];
    if kind.namespaced {
        meta["namespace"] = json!("n");
    }
    meta["uid"] = json!("u-1");
    meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    kind.prepare_create(&mut object);
    let mut errors: Vec<String> = kind.validate_create(&object).iter().map(ToString::to_string).collect();
    errors.sort();
    if errors.is_empty() { Ok(object) } else { Err(errors) }
}

fn without_system_metadata(mut object: Value) -> Value {
    if let Some(meta) = object["metadata"].as_object_mut() {
        for name in ["uid", "creationTimestamp", "namespace", "name"] {
            meta.remove(name);
        }
    }
    for name in ["apiVersion", "kind"] {
        object.as_object_mut().unwrap().remove(name);
    }
    object
}

/// Creating `body`, named `x`, must give `expect` (metadata that the server fills in left out).
pub(crate) fn accepts(name: &str, mut body: Value, expect: Value) {
    body["metadata"]["name"] = json!("x");
    assert_eq!(create(name, body).map(without_system_metadata), Ok(expect), "{name}");
}

/// Creating `body` must be refused for these reasons, in whatever order.
pub(crate) fn refuses(name: &str, mut body: Value, expect: &[&str]) {
    let mut expect = expect.to_vec();
    expect.sort_unstable();
    if body["metadata"]["name"].is_null() {
        body["metadata"]["name"] = json!("x");
    }
    assert_eq!(create(name, body).unwrap_err(), expect, "{name}");
}

#[test]
fn config_maps() {
    accepts("configmaps", json!({"data": {"k": "v"}}), json!({"metadata": {}, "data": {"k": "v"}}));
    accepts("configmaps", json!({"data": {}, "binaryData": null}), json!({"metadata": {}}));
    refuses(
        "configmaps",
        json!({"junk": 1, "metadata": {"foo": 1}}),
        &["unknown field \"junk\"", "unknown field \"metadata.foo\""],
    );
    refuses(
        "configmaps",
        json!({"data": {"k": 1}}),
        &["json: cannot unmarshal number into field data.k of type string"],
    );
    refuses("configmaps", json!({"data": "s"}), &["json: cannot unmarshal string into field data of type map"]);
    refuses("configmaps", json!({"binaryData": {"k": "***"}}), &["illegal base64 data at input byte 0"]);
    refuses(
        "configmaps",
        json!({"data": {"..": "w", "bad key": "v"}}),
        &[
            "data[..]: Invalid value: \"..\": must not be '..'",
            "data[bad key]: Invalid value: \"bad key\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    refuses(
        "configmaps",
        json!({"data": {"k": "x".repeat(1024 * 1024)}}),
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
    refuses(
        "configmaps",
        json!({"metadata": {"name": "a", "finalizers": ["nodomain"]}}),
        &[
            "metadata.finalizers[0]: Invalid value: \"nodomain\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
}

#[test]
fn secrets() {
    accepts(
        "secrets",
        json!({"data": {"k": "dg==", "pw": "b2xk"}, "stringData": {"pw": "p@ss", "empty": ""}}),
        json!({"metadata": {}, "data": {"k": "dg==", "pw": "cEBzcw==", "empty": ""}, "type": "Opaque"}),
    );
    refuses("secrets", json!({"data": {"k": "not base64!"}}), &["illegal base64 data at input byte 3"]);
    refuses(
        "secrets",
        json!({"type": "kubernetes.io/tls", "data": {}}),
        &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
    );
    refuses(
        "secrets",
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {"x": "e30="}}),
        &["data[.dockerconfigjson]: Required value"],
    );
    let error = create(
        "secrets",
        json!({"metadata": {"name": "x"}, "type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "hunter2"}}),
    )
    .unwrap_err();
    assert!(!error[0].contains("hunter2"), "{error:?}");
}

#[test]
fn namespaces() {
    accepts(
        "namespaces",
        json!({}),
        json!({
            "metadata": {"labels": {"kubernetes.io/metadata.name": "x"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        }),
    );
    refuses(
        "namespaces",
        json!({"metadata": {"name": "Conf_Bad"}}),
        &[
            "metadata.name: Invalid value: \"Conf_Bad\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
}

pub(crate) fn container() -> Value {
    json!({"name": "main", "image": "example.test/x:1", "command": ["sh"]})
}

#[test]
fn pods_get_defaults() {
    accepts(
        "pods",
        json!({"spec": {
            "containers": [{
                "name": "a", "image": "example.test/x",
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "E", "value": ""}],
                "livenessProbe": {"exec": {"command": ["true"]}},
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
            }],
            "volumes": [
                {"name": "c", "configMap": {"name": "x"}}, {"name": "e"},
                {"name": "h", "hostPath": {"path": "/tmp"}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
        }}),
        json!({
            "metadata": {"generation": 1},
            "spec": {
                "containers": [{
                    "name": "a", "image": "example.test/x", "imagePullPolicy": "Always",
                    "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}, {"name": "E"}],
                    "livenessProbe": {"exec": {"command": ["true"]}, "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
                "priority": 0, "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
                "serviceAccount": "default", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
                "tolerations": [
                    {"effect": "NoExecute", "key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300},
                    {"effect": "NoExecute", "key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 300},
                ],
                "volumes": [
                    {"name": "c", "configMap": {"defaultMode": 420, "name": "x"}}, {"name": "e", "emptyDir": {}},
                    {"name": "h", "hostPath": {"path": "/tmp", "type": ""}},
                    {"name": "p", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3600, "path": "t"}}]}},
                ],
            },
            "status": {"phase": "Pending", "qosClass": "Guaranteed"},
        }),
    );
}

/// A pod whose only container has these additional members.
pub(crate) fn pod(extra: Value) -> Value {
    let mut one = container();
    one.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"spec": {"containers": [one]}})
}

#[test]
fn pods_are_checked() {
    refuses("pods", json!({"spec": {}}), &["spec.containers: Required value"]);
    refuses("pods", pod(json!({"image": ""})), &["spec.containers[0].image: Required value"]);
    refuses(
        "pods",
        json!({"spec": {"containers": [container()], "restartPolicy": "Maybe"}}),
        &["spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\""],
    );
    refuses(
        "pods",
        pod(json!({"volumeMounts": [{"name": "w", "mountPath": "/w"}]})),
        &["spec.containers[0].volumeMounts[0].name: Not found: \"w\""],
    );
    refuses(
        "pods",
        pod(json!({"env": [{"name": "", "value": "1"}]})),
        &["spec.containers[0].env[0].name: Required value"],
    );
    refuses(
        "pods",
        pod(json!({"env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]})),
        &["spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"],
    );
    refuses(
        "pods",
        pod(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
        &["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
    );
    refuses(
        "pods",
        pod(json!({"resources": {"limits": {"memory": "lots"}}})),
        &["quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"],
    );
    refuses(
        "pods",
        pod(json!({"livenessProbe": {"periodSeconds": 1}})),
        &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
    );
    refuses(
        "pods",
        json!({"spec": {"containers": [container(), container()], "volumes": [{"name": "v"}, {"name": "v"}]}}),
        &["spec.containers[1].name: Duplicate value: \"main\"", "spec.volumes[1].name: Duplicate value: \"v\""],
    );
    refuses(
        "pods",
        json!({"spec": {"containers": [container()], "volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]}}),
        &["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
    );
    refuses(
        "pods",
        json!({"spec": {"containers": [container()], "activeDeadlineSeconds": 0}}),
        &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    );
    refuses(
        "pods",
        json!({"spec": {"containers": [container()], "hostNetwork": "yes"}}),
        &["json: cannot unmarshal string into field spec.hostNetwork of type bool"],
    );
    refuses(
        "pods",
        json!({"spec": {"containers": [container()], "priority": 3_000_000_000_i64}}),
        &["json: cannot unmarshal number 3000000000 into field spec.priority of type int32"],
    );
}

pub(crate) fn job(spec: Value) -> Value {
    let mut all = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [container()]}}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": all})
}

#[test]
fn jobs_get_selectors() {
    let mut body = job(json!({"suspend": true}));
    body["metadata"]["name"] = json!("j");
    let job = create("batch/jobs", body).unwrap();
    let labels = json!({
        "batch.kubernetes.io/controller-uid": "u-1", "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u-1", "job-name": "j",
    });
    assert_eq!(job["metadata"]["labels"], labels);
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}));
    assert_eq!(job["status"], json!({}));
    let mut spec = job["spec"].clone();
    for name in ["template", "selector"] {
        spec.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(
        spec,
        json!({
            "backoffLimit": 6, "completionMode": "NonIndexed", "completions": 1, "manualSelector": false,
            "parallelism": 1, "podReplacementPolicy": "TerminatingOrFailed", "suspend": true,
        })
    );
}

#[test]
fn jobs_keep_their_own_labels() {
    let mut body = job(json!({}));
    body["metadata"] = json!({"name": "j", "labels": {"a": "b"}});
    assert_eq!(create("batch/jobs", body).unwrap()["metadata"]["labels"], json!({"a": "b"}));
}

#[test]
fn jobs_are_checked() {
    refuses(
        "batch/jobs",
        json!({"spec": {}}),
        &[
            "spec.template.spec.containers: Required value",
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
    refuses(
        "batch/jobs",
        job(json!({"backoffLimit": -1, "completions": -1, "parallelism": -2})),
        &[
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
            "spec.completions: Invalid value: -1: must be greater than or equal to 0",
            "spec.parallelism: Invalid value: -2: must be greater than or equal to 0",
        ],
    );
    refuses(
        "batch/jobs",
        job(
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3, 0], "containerName": "nope"}}]}}),
        ),
        &[
            "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"nope\": must be one of the container or initContainer names in the pod template",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0]: must be ordered",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
        ],
    );
    refuses(
        "batch/jobs",
        job(json!({"template": {"spec": {"restartPolicy": "Never", "containers": [container()], "junkField": 1}}})),
        &["unknown field \"spec.template.spec.junkField\""],
    );
}

#[test]
fn leases() {
    let spec = json!({"holderIdentity": "", "leaseDurationSeconds": 15, "leaseTransitions": 0, "renewTime": "2020-01-01T00:00:05.123456Z"});
    accepts("coordination.k8s.io/leases", json!({"spec": spec}), json!({"metadata": {}, "spec": spec}));
    accepts("coordination.k8s.io/leases", json!({}), json!({"metadata": {}, "spec": {}}));
    refuses(
        "coordination.k8s.io/leases",
        json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
        &[
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    refuses(
        "coordination.k8s.io/leases",
        json!({"spec": {"renewTime": "soon"}}),
        &["parsing time \"soon\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"soon\" as \"2006\""],
    );
}

#[test]
fn events() {
    accepts(
        "events",
        json!({"involvedObject": {"kind": "ConfigMap", "name": "x", "namespace": "n"}, "reason": "Tested"}),
        json!({
            "metadata": {}, "involvedObject": {"kind": "ConfigMap", "name": "x", "namespace": "n"}, "reason": "Tested",
            "eventTime": null, "firstTimestamp": null, "lastTimestamp": null, "source": {},
            "reportingComponent": "", "reportingInstance": "",
        }),
    );
    refuses(
        "events.k8s.io/events",
        json!({"regarding": {"kind": "ConfigMap", "name": "x", "namespace": "other"}}),
        &[
            "eventTime: Required value",
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
            "type: Invalid value: \"\": has invalid value: ",
        ],
    );
}

#[test]
fn roles_and_bindings() {
    const GROUP: &str = "rbac.authorization.k8s.io";
    accepts("rbac.authorization.k8s.io/roles", json!({}), json!({"metadata": {}, "rules": null}));
    refuses(
        "rbac.authorization.k8s.io/roles",
        json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
        &["rules[0].verbs: Required value: verbs must contain at least one value"],
    );
    accepts(
        "rbac.authorization.k8s.io/rolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}),
        json!({
            "metadata": {}, "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"},
            "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "u"}],
        }),
    );
}

#[test]
fn claims_and_policies() {
    accepts(
        "persistentvolumeclaims",
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}}),
        json!({
            "metadata": {},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"},
            "status": {"phase": "Pending"},
        }),
    );
    accepts(
        "networking.k8s.io/networkpolicies",
        json!({"spec": {"podSelector": {}, "egress": [{}]}}),
        json!({
            "metadata": {"generation": 1},
            "spec": {"podSelector": {}, "egress": [{}], "policyTypes": ["Ingress", "Egress"]},
        }),
    );
    let policy = kind("networking.k8s.io/networkpolicies");
    assert_eq!(policy.warnings(&policy.empty(), None).len(), 1);
}

#[test]
fn definitions_of_custom_resources() {
    accepts(
        "apiextensions.k8s.io/customresourcedefinitions",
        json!({"spec": {
            "group": "example.test", "names": {"kind": "Bobbin", "plural": "bobbins"}, "scope": "Namespaced",
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "string", "default": "", "x-kubernetes-validations": []}, "b": {"type": "object", "additionalProperties": false}}}}}],
        }}),
        json!({
            "metadata": {"generation": 1},
            "spec": {
                "conversion": {"strategy": "None"}, "group": "example.test",
                "names": {"kind": "Bobbin", "listKind": "BobbinList", "plural": "bobbins", "singular": "bobbin"},
                "scope": "Namespaced",
                "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"type": "string", "default": ""}, "b": {"type": "object", "additionalProperties": false}}}}}],
            },
            "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": ["v1beta1"]},
        }),
    );
    refuses(
        "apiextensions.k8s.io/customresourcedefinitions",
        json!({"spec": {"group": "g", "names": {"kind": "B", "plural": "b"}, "scope": "Namespaced", "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"typo": "string"}}}}}]}}),
        &["unknown field \"spec.versions[0].schema.openAPIV3Schema.properties.a.typo\""],
    );
}

#[test]
fn reviews() {
    let kind = kind("authorization.k8s.io/selfsubjectaccessreviews");
    let check = |spec: Value, expect: &[&str]| {
        let object = kind.decode(json!({"spec": spec})).unwrap().object;
        let errors: Vec<String> = kind.validate_create(&object).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expect);
    };
    check(json!({"resourceAttributes": {"verb": "get"}}), &[]);
    check(
        json!({}),
        &[
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ],
    );
    check(
        json!({"nonResourceAttributes": {"path": "/x", "verb": "get"}, "resourceAttributes": {"verb": "get"}}),
        &[
            "spec.nonResourceAttributes: Invalid value: {\"Path\":\"/x\",\"Verb\":\"get\"}: cannot be specified in combination with resourceAttributes",
        ],
    );
    assert_eq!(body("TokenRequest").unwrap().api_version(), "authentication.k8s.io/v1");
}

#[test]
fn warnings() {
    let check = |name: &str, body: Value, expect: &[&str]| {
        let object = create(name, body).unwrap();
        assert_eq!(kind(name).warnings(&object, None), expect, "{name}");
        assert!(kind(name).warnings(&object, Some(&object)).is_empty(), "{name}");
    };
    let mut twice = pod(json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}));
    twice["metadata"]["name"] = json!("a.b");
    check(
        "pods",
        twice,
        &[
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ],
    );
    let mut fraction = job(json!({}));
    fraction["metadata"]["name"] = json!("j");
    fraction["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "100m"}});
    check(
        "batch/jobs",
        fraction,
        &[
            "spec.template.spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
        ],
    );
}

#[test]
fn service_account_tokens_are_mounted() {
    let mut body = pod(json!({}));
    body["metadata"]["name"] = json!("p");
    let mut pod = create("pods", body).unwrap();
    let plain = pod.clone();
    kubetask_kinds::admit_service_account(&mut pod, &json!({"automountServiceAccountToken": false}), "abcde");
    assert_eq!(pod, plain);
    kubetask_kinds::admit_service_account(&mut pod, &json!({"imagePullSecrets": [{"name": "r"}]}), "abcde");
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "r"}]));
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-abcde");
    assert!(kind("pods").validate_create(&pod).is_empty());
    let once = pod.clone();
    kubetask_kinds::admit_service_account(&mut pod, &json!({}), "fghij");
    assert_eq!(pod, once);
}

#[test]
fn fields_to_select_by() {
    let secret = json!({"metadata": {"name": "s"}, "type": "t"});
    assert_eq!(kind("secrets").selectable_field(&secret, "type").as_deref(), Some("t"));
    assert_eq!(kind("secrets").selectable_field(&secret, "metadata.name").as_deref(), Some("s"));
    assert_eq!(kind("batch/jobs").selectable_field(&json!({}), "status.successful").as_deref(), Some("0"));
    assert_eq!(kind("pods").selectable_field(&json!({}), "spec.containers"), None);
    assert_eq!(kind("pods").unsupported_field("spec.containers"), "field label not supported: spec.containers");
    assert_eq!(
        kind("batch/jobs").unsupported_field("spec.suspend"),
        "field label \"spec.suspend\" not supported for Job"
    );
    assert_eq!(
        kind("configmaps").unsupported_field("data.k"),
        "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
}
