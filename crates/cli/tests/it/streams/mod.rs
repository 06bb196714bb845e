//! `exec`, `attach`, `log` and `portforward` with clients that others wrote: kubectl, and the Python and Node clients.

mod debug;
mod kubectl;
mod node;
mod port_forward;
mod python;

use std::time::Duration;

use crate::machine::{Machine, eventually};

/// A pod of one container that runs a shell script.
pub(super) fn pod(name: &str, script: &str, more: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, \
         automountServiceAccountToken: false, terminationGracePeriodSeconds: 1, containers: [{{name: main, \
         image: busybox, command: [sh, -c, {}]{more}}}]}}}}",
        serde_json::to_string(script).unwrap()
    )
}

/// Creates pods and waits until they are `Ready` (or ended).
pub(super) fn create(machine: &Machine, name: &str, manifest: &str) -> Option<()> {
    machine.kubectl_with_input(&["create", "-f", "-"], manifest)?.ok();
    eventually("the pod runs", Duration::from_secs(30), || phase(machine, name) != "Pending");
    Some(())
}

pub(super) fn phase(machine: &Machine, name: &str) -> String {
    machine.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.phase}"]).unwrap().ok().stdout
}
