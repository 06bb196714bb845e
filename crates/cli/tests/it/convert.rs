//! `kubetask convert`: the older API's manifests.

use crate::machine::Machine;

const OLD: &str = "\
apiVersion: kubetask.io/v1alpha1
kind: WorkspaceConfig
metadata:
  name: default
spec:
  agentImage: quay.io/myorg/claude-agent:v2.0
  toolsImage: quay.io/myorg/dev-tools:latest
  credentials:
    - secretRef: {name: github-token}
      env: {name: GITHUB_TOKEN}
  scheduling:
    nodeSelector:
      workload-type: ai-agent
---
apiVersion: kubetask.io/v1alpha1
kind: Task
metadata: {name: old}
spec: {workspaceConfigRef: default, prompt: hi}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: same}
data: {country: 'no', version: '1.10'}
";

#[test]
fn convert_prints_todays_manifests_with_remarks() {
    let machine = Machine::new();
    let out = machine.kubetask_with_input(&["convert", "-f", "-"], OLD).ok();
    insta::assert_snapshot!(out.stdout);
    assert!(out.stderr.contains("<stdin>:1: WorkspaceConfig \"default\" becomes an Agent"), "{}", out.stderr);
    // What comes out is taken by the server, and needs no second turn.
    let file = machine.write("new.yaml", &out.stdout);
    machine.kubetask(&["apply", "-f", &file]).ok();
    let again = machine.kubetask(&["convert", "-f", &file]).ok();
    assert_eq!((again.stderr.as_str(), machine.kubetask(&["convert", "--check", "-f", &file]).code), ("", 0));
}

#[test]
fn convert_ends_with_1_and_2_where_it_should() {
    let machine = Machine::new();
    machine.kubetask_with_input(&["convert", "--check", "-f", "-"], OLD).code(1);
    let broken = "kind: WorkspaceConfig\nspec: {credentials: [{env: X}]}\n";
    let out = machine.kubetask_with_input(&["convert", "-f", "-"], broken).code(2);
    assert_eq!(out.stdout, "");
    assert!(out.stderr.contains("<stdin>:1: spec.credentials[0]: secretRef.name is required"), "{}", out.stderr);
    machine.kubetask_with_input(&["convert", "-f", "-"], "a: [").code(2);
    machine.kubetask(&["convert", "-f", "/nowhere.yaml"]).code(2);
}
