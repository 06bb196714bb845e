//! What kubectl reads: watches, describe, explain, discovery, permissions, raw paths.

use super::Kubectl;

#[test]
fn a_watch_sees_every_change() {
    let Some(kubectl) = Kubectl::up() else { return };
    kubectl.ok("create configmap first");
    let mut watch = kubectl.start("get configmap -w --output-watch-events --no-headers -o custom-columns=T:type,N:object.metadata.name,D:object.data.k");
    watch.until("first");
    kubectl.ok("create configmap a --from-literal=k=1");
    kubectl.ok(r#"patch configmap a -p '{"data":{"k":"2"}}'"#);
    kubectl.ok("delete configmap a");
    let columns = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(columns(watch.until(" a ")), "ADDED a 1");
    assert_eq!(columns(watch.next()), "MODIFIED a 2");
    assert_eq!(columns(watch.next()), "DELETED a 2");

    let mut one = kubectl.start("get configmap first -w --no-headers");
    one.until("first");
    kubectl.ok("create configmap second");
    kubectl.ok("label configmap first seen=yes");
    assert!(one.next().starts_with("first"));
}

#[test]
fn describe_events_and_explain() {
    let Some(kubectl) = Kubectl::up() else { return };
    kubectl.ok("create job j --image=local -- sh -c 'echo hi; exit 3'");
    kubectl.ok("patch job j --type=merge -p '{\"spec\":{\"backoffLimit\":0}}'");
    kubectl.ok("wait --for=condition=Failed job/j --timeout=60s");
    let described = kubectl.ok("describe job j");
    for text in ["Parallelism:", "Pods Statuses:", "SuccessfulCreate", "job-controller", "BackoffLimitExceeded"] {
        assert!(described.contains(text), "{text}: {described}");
    }
    let pod = kubectl.ok("describe pod -l job-name=j");
    for text in
        ["Exit Code:    3", "Reason:       Error", "Controlled By:  Job/j", "Successfully assigned", "QoS Class:"]
    {
        assert!(pod.contains(text), "{text}: {pod}");
    }
    let node = kubectl.ok("describe node");
    assert!(node.contains("Ready            True") && node.contains("Allocatable:"), "{node}");
    for kind in ["namespace default", "serviceaccount default", "clusterrole cluster-admin", "crd tasks.kubetask.io"] {
        assert!(kubectl.ok(&format!("describe {kind}")).contains("Name:"), "{kind}");
    }
    let events = kubectl.ok("events --for=job/j");
    assert!(events.contains("SuccessfulCreate") && events.contains("Job/j"), "{events}");
    let events = kubectl.ok("get events --field-selector=involvedObject.kind=Pod,reason=Started");
    assert!(events.contains("Container started") || events.contains("Started container"), "{events}");

    let explained = kubectl.ok("explain job.spec.template.spec.containers --recursive");
    assert!(
        explained.contains("FIELD: containers <[]Container>") && explained.contains("livenessProbe"),
        "{explained}"
    );
    assert!(kubectl.ok("explain configmap").contains("KIND:       ConfigMap"));
    assert!(kubectl.run("explain configmap.nope").code(1).stderr.contains("field \"nope\" does not exist"));
}

#[test]
fn discovery_permissions_and_raw_paths() {
    let Some(kubectl) = Kubectl::up() else { return };
    let resources = kubectl.ok("api-resources -o wide");
    for row in [
        "configmaps",
        "jobs",
        "customresourcedefinitions",
        "tasks",
        "create,delete,deletecollection,get,list,patch,update,watch",
    ] {
        assert!(resources.contains(row), "{row}: {resources}");
    }
    let verbs = kubectl.ok("api-resources --verbs=watch --namespaced=false -o name");
    assert!(verbs.contains("namespaces\n") && !verbs.contains("configmaps"), "{verbs}");
    let versions = kubectl.ok("api-versions");
    for version in ["v1\n", "batch/v1\n", "apiextensions.k8s.io/v1\n", "kubetask.io/v1alpha1\n"] {
        assert!(versions.contains(version), "{versions}");
    }
    assert!(kubectl.ok("version").contains("Server Version: v1.36"));
    assert!(kubectl.ok("cluster-info").contains("is running at https://127.0.0.1:"));
    assert!(kubectl.ok("config view").contains("current-context: kubetask"));

    let mine = kubectl.ok("auth can-i --list");
    assert!(mine.contains("*.*"), "{mine}");
    assert_eq!(kubectl.ok("auth can-i create pods"), "yes\n");
    assert!(kubectl.ok("auth whoami").contains("system:masters"));
    kubectl.ok("create serviceaccount reader");
    kubectl.ok("create role reader --verb=get,list --resource=configmaps");
    kubectl.ok("create rolebinding reader --role=reader --serviceaccount=default:reader");
    let reader = "--as=system:serviceaccount:default:reader";
    assert_eq!(kubectl.run(&format!("auth can-i create configmaps {reader}")).code(1).stdout, "no\n");
    assert_eq!(kubectl.ok(&format!("auth can-i list configmaps {reader}")), "yes\n");
    let its = kubectl.ok(&format!("auth can-i --list {reader}"));
    assert!(its.lines().any(|l| l.starts_with("configmaps ") && l.ends_with("[get list]")), "{its}");
    assert!(kubectl.ok(&format!("get configmap {reader} -o name")).contains("configmap/"));
    let refused = kubectl.run(&format!("create configmap c {reader}")).code(1).stderr;
    assert!(
        refused.contains("User \"system:serviceaccount:default:reader\" cannot create resource \"configmaps\""),
        "{refused}"
    );
    // A token of the account itself.
    let token = kubectl.ok("create token reader --duration=10m");
    assert_eq!(token.split('.').count(), 3);
    let who = kubectl
        .run(&format!(
            "auth whoami --kubeconfig=/dev/null --server={} --token={} --insecure-skip-tls-verify",
            kubectl.ok("config view -o jsonpath={.clusters[0].cluster.server}"),
            token.trim()
        ))
        .ok()
        .stdout;
    assert!(who.contains("system:serviceaccount:default:reader"), "{who}");

    let page = kubectl.ok("get --raw /api/v1/namespaces/default/configmaps?limit=1");
    assert!(page.contains("\"kind\":\"ConfigMapList\""), "{page}");
    assert_eq!(kubectl.ok("get --raw /readyz"), "ok");
    assert!(kubectl.ok("get --raw /openapi/v3").contains("apis/batch/v1"));
    assert!(kubectl.run("get --raw /nope").code(1).stderr.contains("the server could not find the requested resource"));
    for i in 0..7 {
        kubectl.ok(&format!("create configmap page-{i}"));
    }
    assert_eq!(kubectl.ok("get configmap --chunk-size=2 -o name").matches("page-").count(), 7);
    assert_eq!(
        kubectl.ok("get configmap --sort-by=.metadata.name --field-selector=metadata.name=page-3 -o name"),
        "configmap/page-3\n"
    );
}
