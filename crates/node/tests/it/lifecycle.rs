use std::time::{Duration, Instant};

use kubetask_engine::fake::Script;
use serde_json::{Value, json};

use crate::world::{World, id, until};

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_and_leaves_its_words() {
    let world = World::new().await;
    world.engine.always(
        Script::exits(3).after(Duration::from_millis(100)).stdout("hello\n").writes("/dev/termination-log", "why"),
    );
    let created = world.create("p", json!({"restartPolicy": "Never"})).await;
    let pod = world.phase("p", "Failed").await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(status["state"]["terminated"]["exitCode"], 3);
    assert_eq!(status["state"]["terminated"]["message"], "why");
    assert_eq!(status["state"]["terminated"]["reason"], "Error");
    assert_eq!(condition(&pod, "Ready")["reason"], "PodFailed");
    assert_eq!(condition(&pod, "PodScheduled")["status"], "True");
    assert_eq!(pod["status"]["hostIP"], "127.0.0.1");
    let started = world.engine.started();
    assert_eq!(started.len(), 1);
    assert_eq!(started[0].id, id(&created, "main", 0));
    assert_eq!(started[0].labels["io.kubernetes.pod.name"], "p");
    let events = world.events("p", 4).await;
    let expect = [
        "Scheduled: Successfully assigned default/p to n1",
        "Pulled: Container image \"i:1\" already present on machine and can be accessed by the pod",
        "Created: Container created",
        "Started: Container started",
    ];
    for line in expect {
        assert!(events.iter().any(|event| event == line), "{line} is not in {events:#?}");
    }
    // Everything goes with the object.
    let uid = created.metadata.uid.unwrap();
    let directory = world.root.path().join("node/pods").join(&uid);
    assert!(directory.join("record.json").exists());
    world.delete("p", 0).await;
    world.gone("p").await;
    until("the pod's directory is removed", || !directory.exists()).await;
    until("the pod's logs are removed", || {
        std::fs::read_dir(world.root.path().join("node/logs")).unwrap().next().is_none()
    })
    .await;
}

/// An engine that waits for room is not waited for once nobody wants the pod any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_room_is_deleted_at_once() {
    let world = World::new().await;
    world.engine.always(Script::waits_for_room());
    let created = world.create("p", json!({"terminationGracePeriodSeconds": 3600})).await;
    let id = id(&created, "main", 0);
    until("its start was asked for", || world.engine.starts(&id) == 1).await;
    world.pods().delete("p", &kube::api::DeleteParams::default()).await.unwrap();
    world.gone("p").await;
    let engine: &dyn kubetask_engine::ContainerEngine = &world.engine;
    let began = Instant::now();
    while !engine.list(None).await.unwrap().is_empty() {
        assert!(began.elapsed() < crate::world::PATIENCE, "the engine forgets it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_of_a_log_become_the_message() {
    let world = World::new().await;
    world.engine.always(Script::exits(1).stdout("first\nlast words"));
    world
        .create("p", json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "i:1", "terminationMessagePolicy": "FallbackToLogsOnError"}]}))
        .await;
    let pod = world.phase("p", "Failed").await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"], "first\nlast words");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_and_restarts() {
    let world = World::new().await;
    world.engine.on(|spec| spec.id.0.ends_with("main-0").then(|| Script::exits(2)));
    world.engine.on(|spec| spec.id.0.ends_with("main-1").then(|| Script::exits(0).after(Duration::from_millis(100))));
    let spec = json!({"restartPolicy": "OnFailure", "initContainers": [{"name": "i1", "image": "i:1"}, {"name": "i2", "image": "i:1"}],
        "containers": [{"name": "main", "image": "i:1"}]});
    let created = world.create("p", spec).await;
    let pod = world.phase("p", "Succeeded").await;
    let order: Vec<_> = world.engine.started().into_iter().map(|spec| spec.id).collect();
    assert_eq!(order, [id(&created, "i1", 0), id(&created, "i2", 0), id(&created, "main", 0), id(&created, "main", 1)]);
    let main = &pod["status"]["containerStatuses"][0];
    assert_eq!((&main["restartCount"], &main["lastState"]["terminated"]["exitCode"]), (&json!(1), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_heals_when_it_appears() {
    let world = World::new().await;
    let env = json!([{"name": "V", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "v"}}}]);
    world
        .create("e", json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "i:1", "env": env}]}))
        .await;
    world
        .create("v", json!({"restartPolicy": "Never", "volumes": [{"name": "v", "configMap": {"name": "late"}}]}))
        .await;
    let pod = world
        .wait("e", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"], "configmap \"late\" not found");
    let events = world.events("v", 2).await;
    let mount = "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found";
    assert!(events.iter().any(|event| event == mount), "{events:#?}");
    let began = Instant::now();
    world.config_map("late", json!({"v": "x"})).await;
    world.phase("e", "Succeeded").await;
    world.phase("v", "Succeeded").await;
    assert!(began.elapsed() < Duration::from_secs(3), "healed by the watch and not by a timer: {:?}", began.elapsed());
    assert!(world.engine.started().iter().any(|spec| spec.env.contains(&("V".to_owned(), "x".to_owned()))));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_updated_while_a_pod_runs() {
    let world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    world.config_map("c", json!({"k": "old"})).await;
    let volume = json!([{"name": "v", "configMap": {"name": "c"}}]);
    world.create("p", json!({"volumes": volume, "containers": [{"name": "main", "image": "i:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]})).await;
    world.phase("p", "Running").await;
    let mounts = &world.engine.started()[0].mounts;
    let source = &mounts.iter().find(|mount| mount.target.ends_with("v")).unwrap().source;
    assert_eq!(std::fs::read_to_string(source.join("k")).unwrap(), "old");
    // The watch begins with the first pod that needs it; a change right now must not be missed either.
    world.config_map("c", json!({"k": "new"})).await;
    until("the new content arrives", || std::fs::read_to_string(source.join("k")).unwrap() == "new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_do_not_outlive_the_run() {
    let world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "hidden"}});
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> = kube::Api::namespaced(world.client.clone(), "default");
    secrets.create(&Default::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let volumes = json!([{"name": "s", "secret": {"secretName": "s"}}, {"name": "e", "emptyDir": {}}]);
    let mounts = json!([{"name": "s", "mountPath": "/s"}, {"name": "e", "mountPath": "/e"}]);
    let spec = json!({"restartPolicy": "Never", "volumes": volumes, "containers": [{"name": "main", "image": "i:1", "volumeMounts": mounts}]});
    let pod = world.create("p", spec).await;
    world.phase("p", "Running").await;
    let sources: Vec<_> = world.engine.started()[0].mounts.iter().map(|mount| mount.source.clone()).take(2).collect();
    assert_eq!(std::fs::read_to_string(sources[0].join("k")).unwrap(), "hidden");
    assert!(sources[1].is_dir());
    world.engine.finish(&id(&pod, "main", 0), 0);
    world.phase("p", "Succeeded").await;
    until("the volumes are removed", || sources.iter().all(|source| !source.exists())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pod_is_deleted_gracefully() {
    let world = World::new().await;
    world.engine.always(Script::runs_until_stopped().on_term(7));
    let pod = world.create("p", json!({})).await;
    world.phase("p", "Running").await;
    world.delete("p", 5).await;
    world.gone("p").await;
    assert!(world.engine.starts(&id(&pod, "main", 0)) == 1);
    assert!(world.events("p", 5).await.iter().any(|event| event == "Killing: Stopping container main"));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_images_and_bad_names() {
    let world = World::new().await;
    world.engine.missing_image("example.test/none:1");
    let container = |image: &str, policy: &str| json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": image, "imagePullPolicy": policy}]});
    world.create("never", container("example.test/none:1", "Never")).await;
    world.create("pull", container("example.test/none:1", "Always")).await;
    world.create("bad", container("Bad Image", "Never")).await;
    let waits = |reason: &'static str| {
        move |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
    };
    let pod = world.wait("never", waits("ErrImageNeverPull")).await;
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(message, "Container image \"example.test/none:1\" is not present with pull policy of Never");
    world.wait("pull", waits("ErrImagePull")).await;
    world.wait("bad", waits("InvalidImageName")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_through_the_engine() {
    let world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answer = std::sync::Arc::clone(&healthy);
    world.engine.on_exec(move |_, _| {
        let code = if answer.load(std::sync::atomic::Ordering::Relaxed) { 0 } else { 1 };
        kubetask_engine::fake::ExecReply { code, ..Default::default() }
    });
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 1});
    world.create("p", json!({"containers": [{"name": "main", "image": "i:1", "readinessProbe": probe}]})).await;
    let pod = world.phase("p", "Running").await;
    assert_eq!(condition(&pod, "Ready")["message"], "containers with unready status: [main]");
    healthy.store(true, std::sync::atomic::Ordering::Relaxed);
    world.wait("p", |pod| condition(pod, "Ready")["status"] == "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_a_pod_reach_the_engine() {
    let world = World::new().await;
    let spec = json!({
        "restartPolicy": "Never", "hostname": "box", "runtimeClassName": "",
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 1002, "supplementalGroups": [7]},
        "containers": [{"name": "main", "image": "i:1", "command": ["sh", "-c", "echo $(A)"], "args": ["$(POD)"], "workingDir": "/w", "tty": true, "stdin": true,
            "env": [{"name": "A", "value": "x"}, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}},
            "securityContext": {"runAsUser": 2000, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}]});
    let mut spec = spec;
    spec.as_object_mut().unwrap().remove("runtimeClassName");
    world.create("p", spec).await;
    world.phase("p", "Succeeded").await;
    let started = world.engine.started().remove(0);
    assert_eq!(
        (started.command, started.args),
        (vec!["sh".into(), "-c".into(), "echo x".into()], vec!["p".to_owned()])
    );
    assert_eq!(started.working_dir.as_deref(), Some(std::path::Path::new("/w")));
    assert_eq!(started.hostname.as_deref(), Some("box"));
    assert!(started.tty && started.stdin);
    assert_eq!((started.resources.cpu_millis, started.resources.memory_bytes), (Some(250), Some(64 << 20)));
    let security = started.security;
    assert_eq!((security.run_as_user, security.run_as_group), (Some(2000), Some(1001)));
    assert_eq!(security.supplemental_groups, [7, 1002]);
    assert!(security.read_only_root && !security.allow_privilege_escalation);
    assert_eq!(security.drop_capabilities, ["ALL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_named() {
    let world = World::new().await;
    let pod = json!({"metadata": {"name": "p", "annotations": {"node.kubetask.io/engine": "docker"}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main", "image": "i:1"}]}});
    world.pods().create(&Default::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let pod = world
        .wait("p", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    let message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.contains("docker") && message.contains("fake"), "{message}");
    world.delete("p", 1).await;
    world.gone("p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_pods_at_once() {
    let world = World::new().await;
    world.engine.always(Script::exits(0).after(Duration::from_millis(200)));
    let began = Instant::now();
    let names: Vec<String> = (0..200).map(|index| format!("p{index}")).collect();
    futures::future::join_all(names.iter().map(|name| world.create(name, json!({"restartPolicy": "Never"})))).await;
    for name in &names {
        world.phase(name, "Succeeded").await;
    }
    let mut ids: Vec<_> = world.engine.started().into_iter().map(|spec| spec.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
    println!("200 pods: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_starts_within_milliseconds() {
    let world = World::new().await;
    let mut times = Vec::new();
    for index in 0..40 {
        let name = format!("p{index}");
        let began = Instant::now();
        let pod = world.create(&name, json!({"restartPolicy": "Never"})).await;
        let id = id(&pod, "main", 0);
        while world.engine.starts(&id) == 0 {
            tokio::task::yield_now().await;
        }
        times.push(began.elapsed());
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("from create to start: median {median:?}, worst {worst:?}");
    // Far above what it takes, far below any sleep or polling.
    assert!(median < Duration::from_millis(100), "{median:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_comes_to_look_into_a_pod() {
    use kube::api::{Patch, PatchParams};
    let mut world = World::new().await;
    world.engine.on(|spec| spec.id.0.ends_with("main-0").then(Script::runs_until_stopped));
    world.engine.on(|spec| spec.id.0.ends_with("debugger-0").then(|| Script::exits(7)));
    world.config_map("settings", json!({"WORD": "from the map"})).await;
    let created = world.create("p", json!({"restartPolicy": "Never"})).await;
    world.phase("p", "Running").await;
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "debugger", "image": "b:1", "command": ["look"],
        "envFrom": [{"configMapRef": {"name": "settings"}}]}]}});
    let params = PatchParams::default();
    world.pods().patch_subresource("ephemeralcontainers", "p", &params, &Patch::Strategic(debugger)).await.unwrap();
    let ended = |pod: &Value| pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 7;
    let pod = world.wait("p", ended).await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(condition(&pod, "Ready")["status"], "True");
    let started = world.engine.started();
    let debugger = started.iter().find(|spec| spec.id == id(&created, "debugger", 0)).unwrap();
    assert_eq!(
        debugger.env.iter().find(|(name, _)| name == "WORD").map(|(_, value)| value.as_str()),
        Some("from the map")
    );
    // A node that begins again does not run it again.
    world.stop_node().await;
    world.start_node().await;
    world.delete("p", 0).await;
    world.gone("p").await;
    assert_eq!(world.engine.started().iter().filter(|spec| spec.id == id(&created, "debugger", 0)).count(), 1);
}
