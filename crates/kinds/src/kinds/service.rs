//! Services and Endpoints: stored, so that charts which bring them install; nothing here routes to them.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::{Value, json};

use super::check::{one_of, required, selector_text};
use super::edit::{default, ensure, has, items, items_mut, text};
use super::{finalizers, finalizers_on_create, finalizers_only, split_status};
use crate::kind::Hooks;
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const SERVICE: Hooks = Hooks {
    default: default_service,
    prepare_create: |service| super::edit::set(service, "status", json!({"loadBalancer": {}})),
    prepare_update: split_status,
    validate,
    validate_update: |new, _, _, errors| validate(new, errors),
    warnings: |_, old, out| {
        if old.is_none() {
            out.push("services are stored, but nothing here serves their addresses or names".to_owned());
        }
    },
    columns: || &SERVICE_COLUMNS,
    row: service_row,
    field: |service, field| {
        let (_, member) = field.split_once('.')?;
        Some(text(&service["spec"], member).to_owned())
    },
    ..Hooks::NONE
};

pub(crate) const SERVICE_FIELDS: &[&str] = &["spec.clusterIP", "spec.type"];

pub(crate) const ENDPOINTS: Hooks = Hooks {
    default: |endpoints| {
        for subset in items_mut(endpoints, "subsets") {
            for port in items_mut(subset, "ports") {
                default(port, "protocol", "TCP");
            }
        }
    },
    validate: finalizers_on_create,
    validate_update: finalizers_only,
    warnings: |_, old, out| {
        if old.is_none() {
            out.push("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned());
        }
    },
    columns: || &ENDPOINTS_COLUMNS,
    row: endpoints_row,
    ..Hooks::NONE
};

fn default_service(service: &mut Value) {
    let Some(spec) = ensure(service, "spec") else { return };
    default(spec, "sessionAffinity", "None");
    default(spec, "type", "ClusterIP");
    for port in items_mut(spec, "ports") {
        default(port, "protocol", "TCP");
        let number = port["port"].clone();
        let target = &port["targetPort"];
        if target.is_null() || *target == 0 || *target == "" {
            super::edit::set(port, "targetPort", number);
        }
    }
    if text(spec, "type") != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
        // There is no network to take an address from: every service is headless.
        default(spec, "clusterIP", "None");
        let ip = spec["clusterIP"].clone();
        default(spec, "clusterIPs", json!([ip]));
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", "SingleStack");
    }
    if matches!(text(spec, "type"), "NodePort" | "LoadBalancer") {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if text(spec, "type") == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn validate(service: &Value, errors: &mut Vec<Error>) {
    finalizers(service, errors);
    let (spec, path) = (&service["spec"], Path::new("spec"));
    one_of(spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &path, errors);
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], &path, errors);
    let external = text(spec, "type") == "ExternalName";
    if external {
        required(spec, "externalName", &path, errors);
    } else if items(spec, "ports").is_empty() && text(spec, "clusterIP") != "None" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    crate::meta::labels(&spec["selector"], &path.child("selector"), errors);
    let many = items(spec, "ports").len() > 1;
    for (i, port) in items(spec, "ports").iter().enumerate() {
        let path = path.child("ports").index(i);
        if many {
            required(port, "name", &path, errors);
        }
        let number = port["port"].as_i64().unwrap_or(0);
        if !(1..=65535).contains(&number) {
            errors.push(Error::invalid(&path.child("port"), number, "must be between 1 and 65535, inclusive"));
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
    }
}

static SERVICE_COLUMNS: [Column; 7] = [
    NAME,
    column(
        "Type",
        "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, ClusterIP, NodePort, and LoadBalancer. More info: https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types",
        0,
    ),
    column(
        "Cluster-IP",
        "clusterIP is the IP address of the service and is usually assigned randomly. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
        0,
    ),
    column(
        "External-IP",
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service. These IPs are not managed by Kubernetes.",
        0,
    ),
    column(
        "Port(s)",
        "The list of ports that are exposed by this service. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
        0,
    ),
    AGE,
    column("Selector", "Route service traffic to pods with label keys and values matching this selector.", 1),
];

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

fn service_row(service: &Value, now: Timestamp) -> Row {
    let spec = &service["spec"];
    let external: Vec<&str> = super::edit::texts(spec, "externalIPs").collect();
    let external = match text(spec, "type") {
        "ExternalName" => text(spec, "externalName").to_owned(),
        "LoadBalancer" if external.is_empty() => "<pending>".to_owned(),
        _ if external.is_empty() => "<none>".to_owned(),
        _ => external.join(","),
    };
    let ports: Vec<String> = items(spec, "ports")
        .iter()
        .map(|p| {
            let number = p["port"].as_i64().unwrap_or(0);
            let protocol = text(p, "protocol");
            match p["nodePort"].as_i64() {
                Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    let selector = if has(spec, "selector") { json!({"matchLabels": spec["selector"]}) } else { Value::Null };
    Row {
        cells: vec![
            name(service),
            Value::from(text(spec, "type")),
            Value::from(or_none(text(spec, "clusterIP"))),
            Value::from(external),
            Value::from(or_none(&ports.join(","))),
            age(service, now),
            Value::from(selector_text(&selector)),
        ],
        conditions: Vec::new(),
    }
}

static ENDPOINTS_COLUMNS: [Column; 3] = [
    NAME,
    column(
        "Endpoints",
        "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the IPs they share. A single address with multiple ports, some of which are ready and some of which are not (because they come from different containers) will result in the address being displayed in different subsets for the different ports. No address will appear in both Addresses and NotReadyAddresses in the same subset. Sets of addresses and ports that comprise a service.",
        0,
    ),
    AGE,
];

fn endpoints_row(endpoints: &Value, now: Timestamp) -> Row {
    let mut all: Vec<String> = Vec::new();
    for subset in items(endpoints, "subsets") {
        for address in items(subset, "addresses") {
            let ip = text(address, "ip");
            let ports = items(subset, "ports");
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(ports.iter().map(|p| format!("{ip}:{}", p["port"].as_i64().unwrap_or(0))));
        }
    }
    let shown = match all.len() {
        0 => "<none>".to_owned(),
        1..=3 => all.join(","),
        n => format!("{} + {} more...", all[..3].join(","), n - 3),
    };
    Row { cells: vec![name(endpoints), Value::from(shown), age(endpoints, now)], conditions: Vec::new() }
}
