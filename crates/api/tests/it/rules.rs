//! What is refused, and in which words.

use serde_json::{Value, json};

use crate::server::store;

#[track_caller]
fn refused(object: &Value, expect: &str) {
    match store(object, None) {
        Ok(_) => panic!("accepted: {object}"),
        Err(errors) => assert!(errors.iter().any(|e| e.contains(expect)), "no error has {expect:?}: {errors:#?}"),
    }
}

fn task(spec: Value) -> Value {
    json!({"apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "metadata": {"name": "t"}, "spec": spec})
}

fn context(context: Value) -> Value {
    task(json!({"contexts": [context]}))
}

fn agent(mut spec: Value) -> Value {
    spec.as_object_mut().unwrap().entry("serviceAccountName").or_insert(json!("default"));
    json!({"apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "a"}, "spec": spec})
}

#[test]
fn tasks() {
    refused(&task(json!({})), "contexts is required (or set prompt)");
    refused(&task(json!({"prompt": "x", "timeoutSeconds": 0})), "spec.timeoutSeconds");
    refused(&task(json!({"prompt": "x", "retries": -1})), "spec.retries");
    refused(&task(json!({"prompt": "x", "humanInTheLoop": {}})), "spec.humanInTheLoop.enabled: Required value");
    refused(&task(json!({"prompt": "x", "agentref": "y"})), "unknown field \"spec.agentref\"");
    refused(&task(json!({"prompt": 7})), "spec.prompt");
    let many: Vec<Value> = (0..65)
        .map(|i| json!({"type": "File", "file": {"filePath": format!("/f{i}"), "source": {"inline": ""}}}))
        .collect();
    refused(&task(json!({"contexts": many})), "Too many: 65: must have at most 64 items");
}

#[test]
fn contexts() {
    let source = json!({"inline": "x"});
    refused(&context(json!({"type": "Mcp"})), "Unsupported value: \"Mcp\"");
    refused(&context(json!({"type": "File"})), "a context of type File has `file` and no other member");
    refused(
        &context(json!({"type": "Repository", "file": {"filePath": "/a", "source": source}})),
        "a context of type Repository has `repository` and no other member",
    );
    refused(
        &context(
            json!({"type": "File", "file": {"filePath": "/a", "source": source}, "repository": {"url": "https://x"}}),
        ),
        "a context of type File has `file` and no other member",
    );
    refused(&context(json!({"type": "File", "file": {"source": source}})), "set exactly one of filePath and dirPath");
    refused(
        &context(json!({"type": "File", "file": {"dirPath": "/a", "source": source}})),
        "dirPath needs source.configMapRef",
    );
    refused(
        &context(json!({"type": "File", "file": {"filePath": "/a", "source": {"configMapRef": {"name": "c"}}}})),
        "filePath needs source.inline",
    );
    refused(&context(json!({"type": "File", "file": {"filePath": "/a", "source": {}}})), "set exactly one of inline");
    refused(
        &context(
            json!({"type": "File", "file": {"filePath": "/a", "source": {"inline": "x", "configMapKeyRef": {"name": "c", "key": "k"}}}}),
        ),
        "set exactly one of inline",
    );
}

#[test]
fn paths() {
    let file = |path: &str| context(json!({"type": "File", "file": {"filePath": path, "source": {"inline": "x"}}}));
    for path in ["relative", "/a/../b", "/..", "/a/..", "/a//b", "/a/", "/a/./b", "/a/.", "/a:b"] {
        refused(&file(path), "must be an absolute, clean path without `..`");
    }
    refused(&file("/"), "spec.contexts[0].file.filePath");
    for path in ["/a", "/workspace/task.md", "/a/..b/...", "/a/b c/ä"] {
        store(&file(path), None).unwrap();
    }
}

#[test]
fn repositories_and_remote_files() {
    let repository = |r: Value| context(json!({"type": "Repository", "repository": r}));
    refused(&repository(json!({})), "set either url, or org and repo");
    refused(&repository(json!({"org": "a"})), "org and repo belong together");
    refused(&repository(json!({"org": "a", "repo": "b", "url": "https://x"})), "set either url, or org and repo");
    refused(&repository(json!({"url": "--upload-pack=evil"})), "repository.url");
    refused(&repository(json!({"url": "https://x", "ref": "-evil"})), "repository.ref");
    refused(&repository(json!({"org": "../..", "repo": "b/c"})), "repository.repo");
    for url in
        ["https://example.com/a.git", "git@github.com:a/b.git", "ssh://git@h/x", "file:///srv/git/a", "/srv/git/a"]
    {
        store(&repository(json!({"url": url})), None).unwrap();
    }
    let remote = |r: Value| context(json!({"type": "RemoteFile", "remoteFile": r}));
    refused(&remote(json!({"filePath": "/a", "url": "ftp://x"})), "remoteFile.url");
    refused(
        &remote(json!({"filePath": "/a", "url": "http://x", "headers": [{"name": "A"}]})),
        "set exactly one of value and valueFrom",
    );
    refused(
        &remote(json!({"filePath": "/a", "url": "http://x", "headers": [{"name": "A\r\nB", "value": ""}]})),
        "headers[0].name",
    );
}

#[test]
fn agents() {
    let missing = json!({"apiVersion": "kubetask.io/v1alpha1", "kind": "Agent", "metadata": {"name": "a"}, "spec": {}});
    refused(&missing, "spec.serviceAccountName: Required value");
    refused(&agent(json!({"humanInTheLoop": {"enabled": true}})), "humanInTheLoop requires command");
    store(&agent(json!({"humanInTheLoop": {"enabled": false}})), None).unwrap();
    let credential = |c: Value| agent(json!({"credentials": [c]}));
    refused(&credential(json!({"name": "c", "secretRef": {"name": "s"}, "env": "E"})), "env needs secretRef.key");
    refused(
        &credential(json!({"name": "c", "secretRef": {"name": "s", "key": "k"}})),
        "say what becomes of secretRef.key",
    );
    refused(
        &credential(json!({"name": "c", "secretRef": {"name": "s", "key": "k"}, "env": "E", "fileMode": 256})),
        "fileMode needs mountPath",
    );
    refused(
        &credential(json!({"name": "c", "secretRef": {"name": "s", "key": "k"}, "mountPath": "/a", "fileMode": 512})),
        "fileMode",
    );
    refused(
        &credential(json!({"name": "c", "secretRef": {"name": "s", "key": "k"}, "mountPath": "a"})),
        "absolute, clean path",
    );
    refused(
        &credential(json!({"name": "c", "secretRef": {"name": "s", "key": "k"}, "env": "1A=B"})),
        "credentials[0].env",
    );
    refused(&agent(json!({"workspace": {}})), "set exactly one of emptyDir");
    refused(&agent(json!({"maxConcurrentTasks": 0})), "spec.maxConcurrentTasks");
    refused(&agent(json!({"cluster": {}})), "set exactly one of context and kubeconfigSecretRef");
    refused(&agent(json!({"runtime": "docker"})), "Unsupported value: \"docker\"");
    let twice = json!([{"name": "c", "secretRef": {"name": "s"}}, {"name": "c", "secretRef": {"name": "t"}}]);
    refused(&agent(json!({"credentials": twice})), "Duplicate value");
}

#[test]
fn schedules() {
    let cron = |schedule: &str| {
        json!({"apiVersion": "kubetask.io/v1alpha1", "kind": "CronTask", "metadata": {"name": "c"},
            "spec": {"schedule": schedule, "taskTemplate": {"spec": {"prompt": "x"}}}})
    };
    for schedule in ["* * * *", "0 9 * * * *", "soon"] {
        refused(&cron(schedule), "must be a cron expression of five fields");
    }
    for schedule in ["0 9 * * *", "*/5 0-4,8 1 JAN MON-FRI", "@hourly"] {
        store(&cron(schedule), None).unwrap();
    }
}

#[test]
fn batches_and_configs() {
    let run = |spec: Value| json!({"apiVersion": "kubetask.io/v1alpha1", "kind": "BatchRun", "metadata": {"name": "b"}, "spec": spec});
    refused(&run(json!({})), "set exactly one of batchRef and batchSpec");
    let config = |spec: Value| json!({"apiVersion": "kubetask.io/v1alpha1", "kind": "KubeTaskConfig", "metadata": {"name": "default"}, "spec": spec});
    refused(&config(json!({"taskLifecycle": {"ttlSecondsAfterFinished": -1}})), "ttlSecondsAfterFinished");
    refused(&config(json!({"archive": {"url": "http://x"}})), "spec.archive.url");
    refused(&config(json!({"notifications": {}})), "set exactly one of webhookURL and secretRef");
}

#[test]
fn a_spec_stays_once_its_job_exists() {
    let mut old = store(&task(json!({"prompt": "x", "contexts": []})), None).unwrap();
    let edit = |old: &Value, field: &str, value: Value| {
        let mut new = old.clone();
        new["spec"][field] = value;
        store(&new, Some(old))
    };
    edit(&old, "prompt", json!("y")).unwrap();
    old["status"] = json!({"phase": "Pending"});
    edit(&old, "prompt", json!("y")).unwrap();
    old["status"] = json!({"phase": "Pending", "jobName": "j"});
    for (field, value) in [
        ("prompt", json!("y")),
        ("contexts", json!([{"type": "File", "file": {"filePath": "/a", "source": {"inline": ""}}}])),
        ("agentRef", json!("a")),
        ("timeoutSeconds", json!(5)),
        ("humanInTheLoop", json!({"enabled": true})),
        ("retries", json!(1)),
    ] {
        let errors = edit(&old, field, value).unwrap_err();
        assert!(
            errors.iter().any(|e| e.contains(&format!("spec.{field} cannot be changed once the Job exists"))),
            "{errors:#?}"
        );
    }
    for (field, value) in [("suspend", json!(true)), ("stop", json!(true)), ("priority", json!(7))] {
        edit(&old, field, value).unwrap();
    }
}
