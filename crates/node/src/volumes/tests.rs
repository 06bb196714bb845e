//! Tables for volumes: what lies where, with which mode.

use serde_json::{Value, json};

use super::*;

fn pod(volumes: &Value) -> Pod {
    let spec = json!({"containers": [], "volumes": volumes});
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
}

fn facts() -> NodeFacts {
    NodeFacts { name: "n".into(), address: "127.0.0.1".into(), allocatable: BTreeMap::new() }
}

fn inputs() -> Inputs {
    let map: k8s_openapi::api::core::v1::ConfigMap =
        serde_json::from_value(json!({"data": {"a": "A", "x": "X"}})).unwrap();
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(json!({"data": {"k": "c2Vj"}})).unwrap();
    Inputs {
        fetched: Fetched {
            config_maps: [("c".into(), map.into())].into(),
            secrets: [("s".into(), secret.into())].into(),
        },
        ..Inputs::default()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn volumes_are_put_in_place_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path(), None);
    let pod = pod(&json!([
        {"name": "cm", "configMap": {"name": "c"}},
        {"name": "sec", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "work", "emptyDir": {}},
        {"name": "mem", "emptyDir": {"medium": "Memory"}},
        {"name": "host", "hostPath": {"path": "/dev/null", "type": "CharDevice"}},
    ]));
    let places = set_up(&pod, &layout, &inputs(), &facts()).unwrap();
    assert_eq!(fs::read_to_string(places["cm"].path.join("a")).unwrap(), "A");
    assert!(places["cm"].read_only && places["sec"].read_only && !places["work"].read_only);
    assert_eq!(mode(&places["sec"].path.join("k")), 0o400);
    assert_eq!(mode(&places["work"].path), 0o777);
    assert_eq!(mode(&layout.private("u")), 0o700);
    assert_eq!(mode(&layout.pod("u")), 0o700);
    assert!(places["sec"].path.starts_with(layout.private("u")));
    assert!(places["mem"].path.starts_with(layout.private("u")));
    // Again: what a container wrote stays.
    fs::write(places["work"].path.join("f"), "kept").unwrap();
    assert_eq!(set_up(&pod, &layout, &inputs(), &facts()).unwrap(), places);
    assert_eq!(fs::read_to_string(places["work"].path.join("f")).unwrap(), "kept");
    // A program may have locked a directory, and linked to the outside.
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "").unwrap();
    std::os::unix::fs::symlink(&outside, places["work"].path.join("link")).unwrap();
    fs::create_dir(places["work"].path.join("locked")).unwrap();
    fs::set_permissions(places["work"].path.join("locked"), Permissions::from_mode(0o000)).unwrap();
    tear_down(&layout, "u").unwrap();
    assert!(!layout.pod("u").exists() && !layout.private("u").exists() && outside.join("f").exists());
    tear_down(&layout, "u").unwrap();
}

#[test]
fn every_volume_that_fails_is_named() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path(), None);
    let pod = pod(&json!([
        {"name": "a", "configMap": {"name": "ghost"}},
        {"name": "b", "hostPath": {"path": "/dev/null", "type": "Directory"}},
        {"name": "c", "nfs": {"server": "x", "path": "/"}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
    ]));
    let inputs =
        Inputs { claims: [("d".into(), Err("persistentvolumeclaim \"data\" not found".into()))].into(), ..inputs() };
    let errors = set_up(&pod, &layout, &inputs, &facts()).unwrap_err();
    let expect = [
        "MountVolume.SetUp failed for volume \"a\" : configmap \"ghost\" not found",
        "MountVolume.SetUp failed for volume \"b\" : hostPath type check failed: /dev/null is not a directory",
        "MountVolume.SetUp failed for volume \"c\" : this kind of volume is not supported by this node",
        "MountVolume.SetUp failed for volume \"d\" : persistentvolumeclaim \"data\" not found",
    ];
    assert_eq!(errors, expect);
}

#[test]
fn mounts_of_a_container() {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path(), None);
    let pod = pod(&json!([{"name": "cm", "configMap": {"name": "c"}}, {"name": "work", "emptyDir": {}}]));
    let places = set_up(&pod, &layout, &inputs(), &facts()).unwrap();
    let env = [("NAME".to_owned(), "me".to_owned())];
    let check = |mount: Value, expect: Result<(&Path, bool), &str>| {
        let container = serde_json::from_value(json!({"name": "main", "volumeMounts": [mount]})).unwrap();
        let got = mounts(&container, &places, &env).map(|mounts| (mounts[0].source.clone(), mounts[0].read_only));
        let expect =
            expect.map(|(path, read_only)| (fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()), read_only));
        let got = got.map(|(path, read_only)| (fs::canonicalize(&path).unwrap_or(path), read_only));
        assert_eq!(got, expect.map_err(str::to_owned), "{mount}");
    };
    let (cm, work) = (&places["cm"].path, &places["work"].path);
    check(json!({"name": "cm", "mountPath": "/v"}), Ok((cm, true)));
    check(json!({"name": "work", "mountPath": "/v", "readOnly": true}), Ok((work, true)));
    check(json!({"name": "work", "mountPath": "/v"}), Ok((work, false)));
    check(json!({"name": "cm", "mountPath": "/v/x", "subPath": "x"}), Ok((&cm.join("x"), true)));
    check(json!({"name": "work", "mountPath": "/v", "subPathExpr": "of/$(NAME)"}), Ok((&work.join("of/me"), false)));
    check(json!({"name": "work", "mountPath": "/v", "subPathExpr": "$(NOPE)"}), Err("missing value for \"NOPE\""));
    check(json!({"name": "ghost", "mountPath": "/v"}), Err("volume \"ghost\" not found"));
    check(
        json!({"name": "work", "mountPath": "/v", "subPath": "../x"}),
        Err(
            "failed to prepare subPath for volumeMount \"work\" of container \"main\": it must be a relative path without '..'",
        ),
    );
    check(
        json!({"name": "cm", "mountPath": "/v", "subPath": "none"}),
        Err(
            "failed to prepare subPath for volumeMount \"cm\" of container \"main\": No such file or directory (os error 2)",
        ),
    );
    let container = serde_json::from_value(json!({"name": "main", "volumeMounts": [
        {"name": "cm", "mountPath": "/a/b/c"}, {"name": "work", "mountPath": "/a"}]}))
    .unwrap();
    let order: Vec<PathBuf> = mounts(&container, &places, &[]).unwrap().into_iter().map(|mount| mount.target).collect();
    assert_eq!(order, [PathBuf::from("/a"), PathBuf::from("/a/b/c")], "parents first");
}
