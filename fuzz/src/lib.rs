//! What is done with hostile bytes, by target. `targets/` feeds these functions from libFuzzer; `cargo test` replays
//! `corpus/` and variations of it through the same functions.
//!
//! A function returns when all is well and panics when not; what takes long or much memory is for the fuzzer to notice.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use kubetask_apiserver::{ApiServer, Config, LocalService, User};
use kubetask_patch::apply::{Applier, ApplyError};
use kubetask_patch::managed::Updater;
use kubetask_patch::{apply, json, managed, merge, strategic};
use kubetask_schema::{CompiledSchema, parse, structural};
use kubetask_store::{Options, Store};
use serde_json::{Value, json};
use tower::ServiceExt;

/// A target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("patches", patches),
    ("server_side_apply", server_side_apply),
    ("selectors", selectors),
    ("cel", cel),
    ("yaml", yaml),
    ("bodies", bodies),
];

const NOW: &str = "2026-01-02T00:00:00Z";
const KINDS: [(&str, &str); 4] = [("", "ConfigMap"), ("", "Pod"), ("batch", "Job"), ("", "Service")];

/// The first byte, and the lines after it.
fn lines(data: &[u8]) -> Option<(u8, impl Iterator<Item = &str>)> {
    let (first, rest) = data.split_first()?;
    Some((*first, std::str::from_utf8(rest).ok()?.split('\n')))
}

fn schema(choice: u8) -> Arc<kubetask_schema::model::Schema> {
    let (group, kind) = KINDS[usize::from(choice) % KINDS.len()];
    kubetask_kinds::lookup_kind(group, "v1", kind).expect("a kind of the table").schema()
}

/// A byte for the kind, a document, a patch, another patch: as JSON, merge and strategic patch.
pub fn patches(data: &[u8]) {
    let Some((choice, mut lines)) = lines(data) else { return };
    let mut next = || lines.next().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let (Some(doc), Some(patch)) = (next(), next()) else { return };
    let schema = schema(choice);
    let _ = json::apply(doc.clone(), &patch);
    if let Ok(once) = merge::apply(doc.clone(), &patch) {
        assert_eq!(merge::apply(once.clone(), &patch).ok(), Some(once), "a merge patch is idempotent");
    }
    if let Ok(patched) = strategic::apply(doc.clone(), &patch, &schema) {
        assert!(patched.is_object());
        // A second one meets what the first one made.
        if let Some(second) = next() {
            let _ = strategic::apply(patched, &second, &schema);
        }
    }
    let by = Updater { manager: "m", api_version: "v1", now: NOW, ..Updater::default() };
    let mut new = patch;
    managed::track_update(Some(&doc), &mut new, &schema, &by);
}

/// A byte for the kind, then configurations, each after a byte for its manager (and force): applied one by one.
pub fn server_side_apply(data: &[u8]) {
    let Some((choice, lines)) = lines(data) else { return };
    let schema = schema(choice);
    let mut live: Option<Value> = None;
    for line in lines.take(8) {
        let Some((by, text)) = line.split_at_checked(1) else { continue };
        let Ok(config) = serde_json::from_str::<Value>(text) else { continue };
        let by = by.as_bytes()[0];
        let manager = ["a", "b", "c"][usize::from(by) % 3];
        if by.is_ascii_uppercase() {
            // Written, not applied.
            let by = Updater { manager, api_version: "v1", now: NOW, ..Updater::default() };
            let mut new = config;
            managed::track_update(live.as_ref(), &mut new, &schema, &by);
            live = new.is_object().then_some(new);
            continue;
        }
        let by = Applier { manager, api_version: "v1", now: NOW, force: by % 2 == 0, ..Applier::default() };
        match apply::apply(live.as_ref(), &config, &schema, &by) {
            Ok(applied) => {
                assert!(applied.object.is_object());
                // It settles. Not always at once: a list that it has emptied is gone, and comes back as an empty one.
                let mut last = applied.object.clone();
                for round in 0..3 {
                    let Ok(again) = apply::apply(Some(&last), &config, &schema, &by) else { break };
                    assert!(round < 2 || !again.changed, "an apply settles: {last} then {}", again.object);
                    last = again.object;
                }
                live = Some(applied.object);
            }
            Err(ApplyError::Conflicts(conflicts)) => assert!(!conflicts.is_empty() && !by.force),
            Err(_) => {}
        }
    }
}

/// A label selector, a field selector, and queries for lists and watches.
pub fn selectors(data: &[u8]) {
    let Some((choice, mut lines)) = lines(data) else { return };
    let labels = escape(lines.next().unwrap_or_default());
    let fields = escape(lines.next().unwrap_or_default());
    let rest = escape(lines.next().unwrap_or_default());
    let path = ["configmaps", "pods", "events", "namespaces"][usize::from(choice) % 4];
    let extra =
        ["limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "allowWatchBookmarks"];
    let extra = extra[usize::from(choice / 4) % extra.len()];
    send("GET", &format!("/api/v1/{path}?labelSelector={labels}&fieldSelector={fields}&{extra}={rest}"), "", &[]);
    send(
        "DELETE",
        &format!("/api/v1/namespaces/default/configmaps?labelSelector={labels}&fieldSelector={fields}"),
        "",
        &[],
    );
}

/// A rule, a message expression, then values: compiled into a schema and evaluated, from each value to the next.
pub fn cel(data: &[u8]) {
    let Some((_, mut lines)) = lines(data) else { return };
    let rule = lines.next().unwrap_or_default();
    let message = lines.next().unwrap_or_default();
    let mut validation = json!({"rule": rule});
    if !message.is_empty() {
        validation["messageExpression"] = message.into();
    }
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [validation], "properties": {
            "i": {"type": "integer", "maximum": 1000}, "n": {"type": "number"}, "b": {"type": "boolean"},
            "s": {"type": "string", "maxLength": 100}, "d": {"type": "string", "format": "date-time"},
            "l": {"type": "array", "maxItems": 20, "items": {"type": "string", "maxLength": 20}},
            "m": {"type": "object", "maxProperties": 20, "additionalProperties": {"type": "integer"}},
            "k": {"type": "array", "maxItems": 20, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
                "items": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}}}}}});
    let Ok(schema) = parse::structural(&schema) else { return };
    if !structural::check(&schema, &kubetask_schema::field::Path::root()).is_empty() {
        return;
    }
    let schema = CompiledSchema::new(Arc::new(schema));
    let mut old: Option<Value> = None;
    for line in lines.take(4) {
        let Ok(spec) = serde_json::from_str::<Value>(line) else { continue };
        let mut object = json!({"metadata": {"name": "a"}, "spec": spec});
        schema.admit(&mut object);
        let started = Instant::now();
        match &old {
            None => schema.validate_create(&object, Vec::new()),
            Some(old) => schema.validate_update(&object, old, Vec::new()).errors,
        };
        assert!(started.elapsed() < Duration::from_secs(10), "a cost limit is missing");
        old = Some(object);
    }
}

/// A text as YAML, and as JSON beside it.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limits = kubetask_yaml::Limits::default();
    let Ok(documents) = kubetask_yaml::read_all(text, limits) else { return };
    for document in documents {
        // What was read can be said again.
        let text = printable(&document.value.to_string());
        let again = kubetask_yaml::read_one(&text, limits);
        assert!(again.is_ok_and(|again| same(&again.value, &document.value)), "{text}");
    }
}

/// JSON whose strings have, where YAML allows no such character, an escape for it.
fn printable(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

/// Alike but for how numbers are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// A byte for the way, then a body, through the whole server.
pub fn bodies(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let choice = usize::from(*choice);
    let collections = [
        ("/api/v1/namespaces/default/configmaps", "fuzz"),
        ("/api/v1/namespaces/default/pods", "fuzz"),
        ("/apis/batch/v1/namespaces/default/jobs", "fuzz"),
        ("/apis/fuzz.example.test/v1/namespaces/default/things", "fuzz"),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "fuzzes.fuzz.example.test"),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "fuzz"),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews", "fuzz"),
        ("/api/v1/namespaces/default/services", "fuzz"),
    ];
    let (collection, name) = collections[choice % 8];
    let object = format!("{collection}/{name}");
    let (method, path, content_type) = match choice / 8 % 10 {
        0 | 1 => ("POST", collection.to_owned(), "application/json"),
        2 => ("POST", collection.to_owned(), "application/yaml"),
        3 => ("PUT", object, "application/json"),
        4 => ("PATCH", object, "application/json-patch+json"),
        5 => ("PATCH", object, "application/merge-patch+json"),
        6 => ("PATCH", object, "application/strategic-merge-patch+json"),
        7 => ("PATCH", format!("{object}?fieldManager=fuzz&force=true"), "application/apply-patch+yaml"),
        8 => ("DELETE", object, "application/json"),
        _ => ("POST", collection.to_owned(), "application/vnd.kubernetes.protobuf"),
    };
    send(method, &path, content_type, body);
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A server that has been used so many times.
struct Server {
    runtime: tokio::runtime::Runtime,
    service: LocalService,
    uses: usize,
}

/// A server's life; then a new one, so that what inputs leave behind stays small.
const USES: usize = 2000;

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let service = runtime.block_on(async {
            let store = Store::in_memory(Options::default()).expect("a store");
            let api = ApiServer::new(Config::new(store)).expect("a server");
            api.bootstrap().await.expect("a bootstrapped server");
            api.service_as(User::admin("fuzz"), "fuzz")
        });
        let server = Self { runtime, service, uses: 0 };
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.fuzz.example.test"}, "spec": {"group": "fuzz.example.test", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale":
                {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "default": 1, "maximum": 9}, "any": {"x-kubernetes-preserve-unknown-fields": true},
                        "either": {"x-kubernetes-int-or-string": true}, "text": {"type": "string", "pattern": "^[a-z]*$"},
                        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}},
                        "x-kubernetes-validations": [{"rule": "!has(self.set) || size(self.set) < 5"}]},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}});
        let status = server.call(
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "application/json",
            definition.to_string().as_bytes(),
        );
        assert_eq!(status, 201);
        server
    }

    fn call(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> u16 {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        // The harness' own paths are escaped.
        let Ok(request) = request.body(Body::from(body.to_vec())) else { return 0 };
        let started = Instant::now();
        let (status, text) = self.runtime.block_on(async {
            let response = self.service.clone().oneshot(request).await.expect("an answer");
            let status = response.status().as_u16();
            let body = tokio::time::timeout(Duration::from_secs(10), response.into_body().collect()).await;
            (status, body.expect("an answer that ends").expect("a whole body").to_bytes())
        });
        assert!(started.elapsed() < Duration::from_secs(20), "{method} {path} took {:?}", started.elapsed());
        let text = String::from_utf8_lossy(&text);
        assert!(!text.contains("the request handler panicked"), "{method} {path}: {text}");
        status
    }
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

fn send(method: &str, path: &str, content_type: &str, body: &[u8]) {
    SERVER.with_borrow_mut(|slot| {
        let server = slot.get_or_insert_with(Server::start);
        server.call(method, path, content_type, body);
        server.uses += 1;
        if server.uses == USES {
            *slot = None;
        }
    });
}
