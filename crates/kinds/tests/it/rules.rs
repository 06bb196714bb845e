//! Rules of single kinds: quotas, limit ranges, Secrets of known types, and what pods may not be.

use serde_json::{Value, json};

use crate::pipeline::{create, refuses};

#[test]
fn quotas() {
    let quota = |hard: Value, more: Value| {
        let mut spec = json!({"hard": hard});
        for (name, value) in more.as_object().unwrap() {
            spec[name] = value.clone();
        }
        json!({"spec": spec})
    };
    let hard = json!({"pods": "5", "requests.cpu": "1500m", "count/widgets.a.test": "1", "requests.x.test/gpu": "1"});
    assert!(create("resourcequotas", json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).is_ok());
    refuses(
        "resourcequotas",
        quota(json!({"podz": "1", "pods": "1500m", "secrets": "-1", "storage": "1"}), json!({})),
        &[
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
            "spec.hard[podz]: Invalid value: \"podz\": must be a standard resource for quota",
            "spec.hard[podz]: Invalid value: \"podz\": must be a standard resource type or fully qualified",
            "spec.hard[secrets]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
        ],
    );
    refuses(
        "resourcequotas",
        quota(json!({"cpu": "1"}), json!({"scopes": ["BestEffort", "NotBestEffort", "Odd"]})),
        &[
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: conflicting scopes",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope applied to resource",
        ],
    );
    let expressions = json!([{"scopeName": "Terminating", "operator": "In"}, {"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]}]);
    refuses(
        "resourcequotas",
        quota(json!({"pods": "1"}), json!({"scopeSelector": {"matchExpressions": expressions}})),
        &[
            "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            "spec.scopeSelector.matchExpressions.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ],
    );
}

#[test]
fn limit_ranges() {
    let range = |limits: Value| json!({"spec": {"limits": limits}});
    refuses(
        "limitranges",
        range(json!([
            {"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}},
            {"type": "Pod", "default": {"cpu": "1"}, "maxLimitRequestRatio": {"memory": "500m"}},
            {"type": "PersistentVolumeClaim"},
            {"type": "Odd", "max": {"cores": "1"}},
        ])),
        &[
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1",
            "spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1",
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[1].default: Forbidden: may not be specified when `type` is 'Pod'",
            "spec.limits[1].maxLimitRequestRatio[memory]: Invalid value: \"500m\": ratio 500m is less than 1",
            "spec.limits[2].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            "spec.limits[3].max[cores]: Invalid value: \"cores\": must be a standard resource type or fully qualified",
            "spec.limits[3].type: Invalid value: \"Odd\": must be a standard limit type or fully qualified",
        ],
    );
}

#[test]
fn smaller_rules_of_pods() {
    let pod = |spec: Value, container: Value| {
        let mut body = json!({"spec": {"containers": [{"name": "c", "image": "i:1"}]}});
        for (name, value) in spec.as_object().unwrap() {
            body["spec"][name] = value.clone();
        }
        for (name, value) in container.as_object().unwrap() {
            body["spec"]["containers"][0][name] = value.clone();
        }
        body
    };
    refuses(
        "pods",
        pod(
            json!({}),
            json!({"resources": {"limits": {"cores": "1", "x.test/gpu": "1500m"}, "requests": {"x.test/gpu": "1", "hugepages-2Mi": "2Mi"}}}),
        ),
        &[
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            "spec.containers[0].resources.limits[cores]: Invalid value: \"cores\": must be a standard resource for containers",
            "spec.containers[0].resources.limits[cores]: Invalid value: \"cores\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.limits[x.test/gpu]: Invalid value: \"1500m\": must be an integer",
            "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to x.test/gpu limit of 1500m",
            "spec.containers[0].resources.requests[cores]: Invalid value: \"cores\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[cores]: Invalid value: \"cores\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
        ],
    );
    refuses(
        "pods",
        pod(
            json!({"hostNetwork": true, "dnsPolicy": "None", "volumes": [{"name": "v"}]}),
            json!({"ports": [{"containerPort": 80, "hostPort": 81}],
                "readinessProbe": {"terminationGracePeriodSeconds": 1, "httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": ""}]}},
                "volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "../x", "mountPropagation": "Bidirectional", "recursiveReadOnly": "Enabled"}],
                "volumeDevices": [{"name": "v", "devicePath": "/a"}]}),
        ),
        &[
            "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            "spec.containers[0].readinessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
            "spec.containers[0].volumeDevices[0].devicePath: Invalid value: \"/a\": must not already exist as a path in volumeMounts",
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": must not already exist in volumeMounts",
            "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
            "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
            "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
            "spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
            "spec.containers[0].volumeMounts[0].mountPath: Invalid value: \"/a\": must not already exist as a path in volumeDevices",
            "spec.containers[0].volumeMounts[0].name: Invalid value: \"v\": must not already exist in volumeDevices",
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ],
    );
    refuses(
        "pods",
        pod(
            json!({"dnsConfig": {"nameservers": ["x", "1.1.1.1", "1.1.1.2", "1.1.1.3"], "searches": ["a.test.", "_b.test", "A"], "options": [{"value": "1"}]}}),
            json!({}),
        ),
        &[
            "spec.dnsConfig.nameservers: Invalid value: [\"x\",\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\"]: must not have more than 3 nameservers",
            "spec.dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "spec.dnsConfig.options[0]: Required value: must not be empty",
            "spec.dnsConfig.searches[2]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
        ],
    );
}

#[test]
fn secrets_of_known_types() {
    let secret = |type_: &str, data: Value| json!({"type": type_, "data": data});
    refuses(
        "secrets",
        secret("kubernetes.io/basic-auth", json!({})),
        &["data[password]: Required value", "data[username]: Required value"],
    );
    refuses("secrets", secret("kubernetes.io/ssh-auth", json!({})), &["data[ssh-privatekey]: Required value"]);
    refuses(
        "secrets",
        secret("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "eA=="})),
        &[
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'x' looking for beginning of value",
        ],
    );
    refuses(
        "secrets",
        secret("kubernetes.io/dockercfg", json!({".dockercfg": "W10="})),
        &[
            "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of type map[string]interface {}",
        ],
    );
}

#[test]
fn time_zones_of_cron_jobs() {
    let cron = |zone: &str| {
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}});
        json!({"spec": {"schedule": "0 1 * * *", "timeZone": zone, "jobTemplate": {"spec": {"template": template}}}})
    };
    let mut fine = cron("Europe/Berlin");
    fine["metadata"]["name"] = json!("x");
    assert!(create("batch/cronjobs", fine).is_ok());
    refuses(
        "batch/cronjobs",
        cron("No/Where"),
        &["spec.timeZone: Invalid value: \"No/Where\": unknown time zone No/Where"],
    );
    refuses("batch/cronjobs", cron("../etc"), &["spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc"]);
}

#[test]
fn parts_of_pods_as_kubernetes_words_them() {
    let pod = |spec: Value| {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        for (name, value) in spec.as_object().unwrap() {
            pod["spec"][name] = value.clone();
        }
        pod
    };
    let container = |more: Value| {
        let mut pod = pod(json!({}));
        for (name, value) in more.as_object().unwrap() {
            pod["spec"]["containers"][0][name] = value.clone();
        }
        pod
    };
    let at = "spec.containers[0]";
    let label = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    refuses(
        "pods",
        container(json!({
            "terminationMessagePolicy": "X",
            "resizePolicy": [{"resourceName": "gpu", "restartPolicy": "NotRequired"}],
            "restartPolicyRules": [{"action": "Restart"}],
            "lifecycle": {"preStop": {"sleep": {"seconds": 99}}},
            "env": [
                {"name": "a", "value": "x", "valueFrom": {"configMapKeyRef": {"name": "", "key": "k"}}},
                {"name": "b", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "3"}}},
            ],
            "envFrom": [{}],
            "securityContext": {"procMount": "Unmasked", "seccompProfile": {"localhostProfile": "x"}},
        })),
        &[
            &format!("{at}.env[0].valueFrom.configMapKeyRef.name: Invalid value: \"\": {label}"),
            &format!("{at}.env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"),
            &format!(
                "{at}.env[1].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.ephemeral-storage\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage resource"
            ),
            &format!("{at}.envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"),
            &format!(
                "{at}.lifecycle.preStop.sleep: Invalid value: 99: must be non-negative and less than terminationGracePeriodSeconds (30)"
            ),
            &format!("{at}.resizePolicy: Unsupported value: \"gpu\": supported values: \"cpu\", \"memory\""),
            &format!("{at}.restartPolicyRules[0].exitCodes: Required value: must be specified"),
            &format!("{at}.restartPolicy: Required value: must specify restartPolicy when restart rules are used"),
            &format!(
                "{at}.securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"
            ),
            &format!(
                "{at}.securityContext.seccompProfile.localhostProfile: Invalid value: {{\"Type\":\"\",\"LocalhostProfile\":\"x\"}}: can only be set when seccomp type is Localhost"
            ),
            &format!(
                "{at}.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set"
            ),
            &format!(
                "{at}.terminationMessagePolicy: Unsupported value: \"X\": supported values: \"File\", \"FallbackToLogsOnError\""
            ),
        ],
    );
    refuses(
        "pods",
        pod(
            json!({"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "two", "mountPath": "/a"}]}], "volumes": [
                {"name": "two", "configMap": {"name": "x"}, "emptyDir": {}},
                {"name": "down", "downwardAPI": {"items": [{"path": "..a"}]}},
                {"name": "many", "projected": {"sources": [
                    {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}, {"key": "/", "path": "p"}]}, "configMap": {"name": "c"}},
                    {"serviceAccountToken": {"path": "/x"}}]}},
            ]}),
        ),
        &[
            "spec.containers[0].volumeMounts[0].name: Not found: \"two\"",
            "spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[1].downwardAPI.path: Invalid value: \"..a\": must not start with '..'",
            "spec.volumes[1].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            "spec.volumes[2].projected.path: Invalid value: \"/x\": must be a relative path",
            "spec.volumes[2].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
            "spec.volumes[2].projected: Invalid value: \"s\": conflicting duplicate paths",
        ],
    );
    refuses(
        "pods",
        pod(json!({
            "dnsPolicy": "X", "preemptionPolicy": "X", "os": {"name": "X"}, "shareProcessNamespace": true, "hostPID": true,
            "readinessGates": [{"conditionType": "a b"}],
            "tolerations": [{"key": "k", "operator": "Exists", "value": "v"}, {"key": "k", "operator": "X", "effect": "X"}],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule"},
                {"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule"}],
            "securityContext": {"sysctls": [{"name": "A", "value": "1"}], "appArmorProfile": {"type": "X"}},
        })),
        &[
            "spec.dnsPolicy: Unsupported value: \"X\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
            "spec.os.name: Unsupported value: \"X\": supported values: \"linux\", \"windows\"",
            "spec.preemptionPolicy: Unsupported value: \"X\": supported values: \"PreemptLowerPriority\", \"Never\"",
            "spec.readinessGates[0].conditionType: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.securityContext.appArmorProfile.type: Unsupported value: \"X\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
            "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
            "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
            "spec.tolerations[1].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            "spec.tolerations[1].operator: Unsupported value: \"X\": supported values: \"Equal\", \"Exists\"",
            "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{k, DoNotSchedule}\"",
        ],
    );
}

#[test]
fn templates_of_jobs() {
    let name = "x".repeat(64);
    let job = |template: Value| {
        let mut template = template;
        template["spec"]["restartPolicy"] = json!("Never");
        template["spec"]["containers"] = json!([{"name": "a", "image": " x"}]);
        json!({"metadata": {"name": name}, "spec": {"template": template}})
    };
    let long = format!("spec.template.labels: Invalid value: \"{name}\": must be no more than 63 bytes");
    refuses("batch/jobs", job(json!({})), &[&long, &long]);
    let shared = format!("metadata.labels: Invalid value: \"{name}\": must be no more than 63 bytes");
    refuses("batch/jobs", job(json!({"metadata": {"labels": {"a": "b"}}})), &[&long, &long, &shared, &shared]);
    let mut short = job(json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "x"}]}}));
    short["metadata"]["name"] = json!("j");
    short["spec"]["completionMode"] = json!("X");
    refuses(
        "batch/jobs",
        short,
        &[
            "spec.completionMode: Unsupported value: \"X\": supported values: \"NonIndexed\", \"Indexed\"",
            "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template",
        ],
    );
}

#[test]
fn events_are_about_objects_of_their_namespace() {
    let about = "involvedObject.namespace: Invalid value: \"\": does not match event.namespace";
    refuses("events", json!({"involvedObject": {"kind": "Node", "name": "n"}}), &[about]);
    refuses(
        "events",
        json!({"involvedObject": {"namespace": "n"}, "eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "c", "reason": "R"}),
        &["action: Required value", "reportingInstance: Required value"],
    );
    refuses(
        "events.k8s.io/events",
        json!({"regarding": {"namespace": "n"}, "type": "Odd", "deprecatedCount": 2, "series": {"count": 1}}),
        &[
            "count: Invalid value: \"\": needs to be unset",
            "eventTime: Required value",
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "type: Invalid value: \"\": has invalid value: Odd",
        ],
    );
}
