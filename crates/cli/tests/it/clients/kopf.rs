//! kopf, a Python framework for operators, with a small operator of a kind of its own.

use std::process::Stdio;
use std::time::Duration;

use super::{Kubectl, fixture, python};
use crate::machine::eventually;

#[test]
fn an_operator_written_with_kopf() {
    let Some(mut command) = python(&["kopf", "kubernetes"]) else { return };
    let Some(kubectl) = Kubectl::up() else { return };
    kubectl.ok(&format!("apply -f {}", fixture("echo.yaml").display()));
    kubectl.ok("create configmap goodbye");
    let log = kubectl.machine.path("kopf.log");
    command
        .args(["-m", "kopf", "run", "--verbose", "--namespace=default"])
        .arg(fixture("kopf/operator.py"))
        .env("KUBECONFIG", kubectl.machine.kubeconfig())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let operator = Operator(command.spawn().unwrap(), log);

    // Created before the operator has started, perhaps: it must not matter.
    let echo = "apiVersion: clients.example.test/v1\nkind: Echo\nmetadata: {name: e}\nspec: {text: one}\n";
    kubectl.apply(echo);
    kubectl.ok("wait --for=jsonpath={.status.created.echoed}=one echo/e --timeout=60s");
    let child = "get configmap e -o jsonpath={.data.text}{.metadata.ownerReferences[0].kind}";
    assert_eq!(kubectl.ok(child), "oneEcho");
    let finalizers = kubectl.ok("get echo e -o jsonpath={.metadata.finalizers}");
    assert!(finalizers.contains("kopf"), "{finalizers}");
    eventually("its event is described", Duration::from_secs(30), || kubectl.ok("describe echo e").contains("Echoed"));

    kubectl.apply(&echo.replace("one", "two"));
    kubectl.ok("wait '--for=jsonpath={.status.changed}=one -> two' echo/e --timeout=30s");
    assert_eq!(kubectl.ok(child), "twoEcho");
    kubectl.ok("label echo e retry=yes");
    kubectl.ok("wait --for=jsonpath={.status.retries}=2 echo/e --timeout=30s");
    eventually("the timer ticks", Duration::from_secs(30), || {
        kubectl.ok("get echo e -o jsonpath={.status.ticks}").parse::<u32>().unwrap() >= 5
    });

    // Its handler runs before the object goes; its child goes after it.
    kubectl.ok("delete echo e --timeout=30s");
    assert_eq!(kubectl.ok("get configmap goodbye -o jsonpath={.data.e}"), "gone");
    kubectl.ok("wait --for=delete configmap/e --timeout=30s");
    drop(operator);
}

/// The operator's process; its log is shown when the test fails.
struct Operator(std::process::Child, std::path::PathBuf);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.1).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("kopf (end):\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}
