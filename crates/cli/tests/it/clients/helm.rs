//! Helm, as the Python package that bundles its code: one release through its life.

use super::{Kubectl, fixture, python};
use crate::machine::Outcome;

#[test]
fn a_release_from_install_to_uninstall() {
    let Some(_) = python(&["helm_python"]) else { return };
    let Some(kubectl) = Kubectl::up() else { return };
    let helm = |step: &str| {
        let mut command = python(&[]).unwrap();
        // Caches and settings of its own.
        command.env("HOME", kubectl.machine.path("helm"));
        command.arg(fixture("python/release.py")).arg(kubectl.machine.kubeconfig()).arg(fixture("chart")).arg(step);
        Outcome::from(command.output().unwrap()).ok().stdout
    };
    let objects = || kubectl.ok("get configmap,secret,greeters -l app.kubernetes.io/managed-by=Helm -o name");
    let greeting = || {
        kubectl.ok("get configmap demo-greeting -o jsonpath={.data.greeting}")
            + &kubectl.ok("get greeter demo -o jsonpath={.spec.greeting}")
    };

    assert_eq!(helm("install"), "1 deployed\n");
    assert_eq!(objects(), "configmap/demo-greeting\nsecret/demo-extra\ngreeter.clients.example.test/demo\n");
    assert_eq!(greeting(), "oneone");
    assert_eq!(kubectl.ok("get configmap demo-greeting -o jsonpath={.data.kubernetes}"), "v1.36");
    // The hook ran first, and Helm waited for the Job.
    kubectl.ok("wait --for=condition=Complete job/demo-before job/demo-run-1 --timeout=1s");
    assert_eq!(kubectl.ok("logs job/demo-run-1"), "one\n");
    assert_eq!(kubectl.ok("get secret -l owner=helm -o name"), "secret/sh.helm.release.v1.demo.v1\n");

    assert_eq!(helm("upgrade"), "2 deployed {'extra': False, 'greeting': 'two'}\n");
    assert_eq!(objects(), "configmap/demo-greeting\ngreeter.clients.example.test/demo\n");
    assert_eq!(greeting(), "twotwo");
    assert_eq!(kubectl.ok("logs job/demo-run-2"), "two\n");
    kubectl.run("get job demo-run-1").code(1);

    assert_eq!(helm("rollback"), "[3]\n");
    assert_eq!(greeting(), "oneone");
    assert!(objects().contains("secret/demo-extra"));

    assert_eq!(helm("uninstall"), "[]\n");
    assert_eq!(objects(), "");
    assert_eq!(kubectl.ok("get crd greeters.clients.example.test -o name").lines().count(), 1, "CRDs stay");
}
