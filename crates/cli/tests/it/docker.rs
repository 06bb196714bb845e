//! An Agent with `runtime: Docker` runs its real image.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::machine::{Machine, eventually, require};

pub(crate) const IMAGE: &str = "kubetask-test/agent:1";

fn docker(args: &[&str]) -> Option<String> {
    let out = Command::new("docker").args(args).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A machine whose server runs, and the image of a very small agent; `None` where there is no daemon.
pub(crate) fn machine() -> Option<Machine> {
    let machine = Machine::up();
    image(&machine).then_some(machine)
}

/// Builds the image; false, said aloud, where there is no daemon.
pub(crate) fn image(machine: &Machine) -> bool {
    let busybox = "/bin/busybox";
    let there = docker(&["info"]).is_some() && std::path::Path::new(busybox).exists();
    // Where no daemon can run, `.ci/run` says so.
    let excused = std::env::var_os("KUBETASK_CI_WITHOUT_DOCKER").is_some();
    if !there && (excused || !require("a Docker daemon and a static busybox", there)) {
        eprintln!("SKIPPED: no Docker daemon");
        return false;
    }
    let context = machine.path("image");
    std::fs::create_dir_all(context.join("root/bin")).unwrap();
    std::fs::create_dir_all(context.join("root/tmp")).unwrap();
    std::fs::set_permissions(context.join("root/tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    std::fs::copy(busybox, context.join("root/bin/busybox")).unwrap();
    for program in ["sh", "cat", "echo", "sleep", "id", "ls", "touch", "test", "tar", "env", "wc"] {
        std::os::unix::fs::symlink("busybox", context.join("root/bin").join(program)).unwrap();
    }
    std::fs::write(context.join("root/from-the-image"), "this is the image\n").unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nADD root /\nENV PATH=/bin\n").unwrap();
    docker(&["build", "-q", "-t", IMAGE, &context.display().to_string()]).expect("the image is built");
    true
}

/// Containers that the data directory's engine has, running or ended.
pub(crate) fn containers(machine: &Machine) -> Vec<String> {
    containers_of(&machine.data_dir())
}

fn containers_of(data_dir: &Path) -> Vec<String> {
    let label = format!("label=io.kubetask.engine.scope={}", data_dir.join("docker").display());
    let listed = docker(&["ps", "-aq", "--filter", &label]).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

/// Removes what a failed test leaves behind.
pub(crate) struct Leftovers(pub(crate) std::path::PathBuf);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for container in containers_of(&self.0) {
            docker(&["rm", "-f", &container]);
        }
    }
}

#[test]
fn a_task_in_a_real_image() {
    let Some(mut machine) = machine() else { return };
    let objects = format!(
        r#"
apiVersion: kubetask.io/v1alpha1
kind: Agent
metadata: {{name: default}}
spec:
  serviceAccountName: default
  runtime: Docker
  agentImage: {IMAGE}
  env: [{{name: WHO, value: somebody}}]
  command: [sh, -c, "cat /from-the-image /workspace/task.md; echo I am $WHO; while ! test -e /workspace/go; do sleep 0.1; done; echo done; echo result > /dev/termination-log; exit 3"]
---
apiVersion: kubetask.io/v1alpha1
kind: Task
metadata: {{name: t}}
spec: {{prompt: "Do it.\n"}}
"#
    );
    assert_eq!(machine.kubetask_with_input(&["apply", "-f", "-"], &objects).code, 0);
    let pod = |machine: &Machine| machine.task_value("t", "/status/podName");
    eventually("the agent speaks", Duration::from_secs(60), || {
        machine.kubetask(&["logs", "t"]).stdout.contains("I am somebody")
    });
    let logs = machine.kubetask(&["logs", "t"]).ok().stdout;
    assert_eq!(logs, "this is the image\nDo it.\nI am somebody\n");
    assert_eq!(containers(&machine).len(), 1);
    // The server dies; the container does not, and the next server finds it.
    let before = containers(&machine);
    machine.kill_server();
    machine.start();
    assert_eq!(containers(&machine), before);
    if let Some(out) = machine.kubectl(&["exec", &pod(&machine), "--", "cat", "/from-the-image"]) {
        assert_eq!(out.ok().stdout, "this is the image\n");
        machine.kubectl(&["exec", &pod(&machine), "--", "touch", "/workspace/go"]).unwrap().ok();
    } else {
        docker(&["exec", &before[0], "touch", "/workspace/go"]).unwrap();
    }
    eventually("the task ends", Duration::from_secs(60), || machine.task_value("t", "/status/phase") == "Failed");
    assert_eq!(machine.task_value("t", "/status/exitCode"), "3");
    assert_eq!(machine.task_value("t", "/status/result"), "result\n");
    let logs = machine.kubetask(&["logs", "t"]).ok().stdout;
    assert_eq!(logs, "this is the image\nDo it.\nI am somebody\ndone\n", "every line, once");
    machine.kubetask(&["delete", "task", "t"]).ok();
    let _leftovers = Leftovers(machine.data_dir());
    eventually("nothing is left", Duration::from_secs(60), || containers(&machine).is_empty());
}

#[test]
fn an_image_that_is_not_there() {
    let Some(machine) = machine() else { return };
    let pod = "---\n{apiVersion: v1, kind: Pod, metadata: {name: p, annotations: {node.kubetask.io/engine: docker}}, spec: \
               {restartPolicy: Never, containers: [{name: main, image: 'kubetask-test/none:1', imagePullPolicy: Never}]}}";
    let Some(out) = machine.kubectl_with_input(&["create", "-f", "-"], pod) else { return };
    out.ok();
    let path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    eventually("the reason is told", Duration::from_secs(30), || {
        machine.kubectl(&["get", "pod", "p", "-o", path]).unwrap().stdout == "ErrImageNeverPull"
    });
}
