//! kubectl on objects that have a life: Jobs, CronJobs, deletion, scale, labels.

use std::time::Duration;

use super::Kubectl;
use crate::machine::eventually;

const SLEEPER: &str = "apiVersion: batch/v1
kind: Job
metadata: {name: NAME}
spec:
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: local, command: [sleep, '1000']}]
";

#[test]
fn a_job_from_a_cron_job() {
    let Some(kubectl) = Kubectl::up() else { return };
    let out =
        kubectl.ok("create cronjob nightly --image=local --schedule='0 3 * * *' -- sh -c 'echo from the cron job'");
    assert_eq!(out, "cronjob.batch/nightly created\n");
    assert_eq!(kubectl.ok("create job now --from=cronjob/nightly"), "job.batch/now created\n");
    kubectl.ok("wait --for=condition=Complete job/now --timeout=30s");
    assert_eq!(kubectl.ok("logs job/now"), "from the cron job\n");
    let owner =
        kubectl.ok("get job now -o jsonpath={.metadata.ownerReferences[0].kind}/{.metadata.ownerReferences[0].name}");
    assert_eq!(owner, "CronJob/nightly");
    let described = kubectl.ok("describe cronjob nightly");
    assert!(described.contains("Schedule:                      0 3 * * *"), "{described}");
    kubectl.ok("delete cronjob nightly");
    kubectl.ok("wait --for=delete job/now --timeout=30s");
}

#[test]
fn deletion_by_propagation() {
    let Some(kubectl) = Kubectl::up() else { return };
    let pods = |job: &str| kubectl.ok(&format!("get pods -l job-name={job} -o name"));
    for job in ["orphan", "background", "foreground"] {
        kubectl.apply(&SLEEPER.replace("NAME", job));
        kubectl.ok(&format!("wait --for=jsonpath={{.status.active}}=1 job/{job} --timeout=30s"));
        kubectl.ok(&format!("delete job {job} --cascade={job}"));
        if job == "foreground" {
            // kubectl waits for the Job to be gone, and it goes last.
            assert_eq!(pods(job), "");
        }
        if job == "background" {
            eventually("the Pod goes after its Job", Duration::from_secs(30), || pods(job).is_empty());
        }
    }
    let orphan = pods("orphan");
    assert_eq!(orphan.lines().count(), 1, "{orphan}");
    let owners = kubectl.ok("get pods -l job-name=orphan -o jsonpath={.items[0].metadata.ownerReferences}");
    assert_eq!(owners, "");
    kubectl.ok("delete pods --all --grace-period=0 --force");
    assert_eq!(kubectl.ok("delete configmap nope --ignore-not-found"), "");
    let refused = kubectl.run("delete configmap nope").code(1).stderr;
    assert_eq!(refused, "Error from server (NotFound): configmaps \"nope\" not found\n");

    kubectl.ok("create namespace gone");
    kubectl.ok("create configmap c -n gone");
    kubectl.ok("delete namespace gone --timeout=30s");
    kubectl.run("get namespace gone").code(1);
}

#[test]
fn labels_annotations_and_waiting() {
    let Some(kubectl) = Kubectl::up() else { return };
    let mut wait = kubectl.start("wait --for=create configmap/a --timeout=30s");
    kubectl.ok("create configmap a --from-literal=k=v");
    assert_eq!(wait.next(), "configmap/a condition met");
    wait.done();
    assert_eq!(kubectl.ok("label configmap a x=y"), "configmap/a labeled\n");
    assert_eq!(kubectl.ok("label configmap a x=y"), "configmap/a not labeled\n");
    let refused = kubectl.run("label configmap a x=z").code(1).stderr;
    assert_eq!(refused, "error: 'x' already has a value (y), and --overwrite is false\n");
    kubectl.ok("label configmap a x=z --overwrite");
    assert_eq!(kubectl.ok("annotate configmap -l x=z note='two words'"), "configmap/a annotated\n");
    assert_eq!(
        kubectl.ok("get configmap -l 'x in (y,z),!w' -o jsonpath={.items[*].metadata.annotations.note}"),
        "two words"
    );
    assert_eq!(kubectl.ok("annotate configmap a note-"), "configmap/a annotated\n");
    kubectl.ok("label configmap a x-");
    assert_eq!(kubectl.ok("get configmap -l x -o name"), "");
    let timeout = kubectl.run("wait --for=jsonpath={.data.k}=other configmap/a --timeout=100ms").code(1).stderr;
    assert!(timeout.contains("timed out waiting for the condition"), "{timeout}");
    let mut wait = kubectl.start("wait --for=jsonpath={.data.k}=other configmap/a --timeout=30s");
    kubectl.ok(r#"patch configmap a -p '{"data":{"k":"other"}}'"#);
    wait.until("condition met");
    wait.done();
}

#[test]
fn custom_resources_and_scale() {
    let Some(kubectl) = Kubectl::up() else { return };
    let definition = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.clients.example.test}
spec:
  group: clients.example.test
  names: {plural: fleets, singular: fleet, kind: Fleet, shortNames: [fl], categories: [all]}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
      subresources:
        status: {}
        scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}
      schema:
        openAPIV3Schema:
          type: object
          description: Fleet is a number of ships.
          properties:
            spec:
              type: object
              x-kubernetes-validations:
                - {rule: 'self.size <= 9', message: at most nine ships}
              properties:
                size: {type: integer, minimum: 0, default: 1, description: How many ships.}
                harbour: {type: string, enum: [north, south]}
            status: {type: object, properties: {size: {type: integer}}}
";
    kubectl.apply(definition);
    kubectl.ok("wait --for=condition=Established crd/fleets.clients.example.test --timeout=30s");
    let fleet = "apiVersion: clients.example.test/v1\nkind: Fleet\nmetadata: {name: f}\nspec: {harbour: north}\n";
    assert_eq!(kubectl.apply(fleet), "fleet.clients.example.test/f created\n");
    // A definition with columns of its own has no other.
    assert_eq!(kubectl.ok("get fl"), "NAME   SIZE\nf      1\n");
    assert_eq!(kubectl.ok("scale fleet f --replicas=4"), "fleet.clients.example.test/f scaled\n");
    assert_eq!(kubectl.ok("get fleet f -o jsonpath={.spec.size}"), "4");
    let refused = kubectl.run("scale fleet f --replicas=4 --current-replicas=3").code(1).stderr;
    assert!(refused.contains("Expected replicas to be 3, was 4"), "{refused}");
    let refused =
        kubectl.run(r#"patch fleet f --type=merge -p '{"spec":{"size":10,"harbour":"east"}}'"#).code(1).stderr;
    assert!(refused.contains("at most nine ships") || refused.contains("Unsupported value: \"east\""), "{refused}");
    let explained = kubectl.ok("explain fleet.spec.size");
    assert!(explained.contains("FIELD: size <integer>") && explained.contains("How many ships."), "{explained}");
    assert!(kubectl.ok("get all -o name").contains("fleet.clients.example.test/f"));
    let wrong = kubectl.input("apply -f -", &fleet.replace("harbour", "harbor")).code(1).stderr;
    assert!(wrong.contains("unknown field \"spec.harbor\""), "{wrong}");
    kubectl.ok("delete crd fleets.clients.example.test");
    let gone = kubectl.run("get fleets").code(1).stderr;
    // Which of the two depends on whether kubectl asks its cache.
    assert!(gone.contains("doesn't have a resource type \"fleets\"") || gone.contains("(NotFound)"), "{gone}");
}
