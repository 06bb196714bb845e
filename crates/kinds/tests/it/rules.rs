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
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim for block mode",
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": must not already exist in volumeMounts",
            "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
            "spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
            "spec.containers[0].volumeMounts[0].mountPath: Invalid value: \"/a\": must not already exist as a path in volumeDevices",
            "spec.containers[0].volumeMounts[0].name: Invalid value: \"v\": must not already exist in volumeDevices",
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
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
            "spec.dnsConfig.searches[2]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
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
