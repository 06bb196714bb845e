//! An Agent with `runtime: Docker` runs its real image.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::machine::{Machine, eventually, require};

pub(crate) const IMAGE: &str = "kubetask-test/agent:1";

fn docker(args: &[&str]) -> Option<String> {
    docker_at(None, args)
}

/// The command, with a daemon of a test's own.
fn docker_at(host: Option<&str>, args: &[&str]) -> Option<String> {
    let out = Command::new("docker").args(args).envs(host.map(|host| ("DOCKER_HOST", host))).output().ok()?;
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
    let host = machine.docker_host();
    let there = docker_at(host, &["info"]).is_some() && std::path::Path::new(busybox).exists();
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
    docker_at(host, &["build", "-q", "-t", IMAGE, &context.display().to_string()]).expect("the image is built");
    true
}

/// The same with this machine's git and what it is linked with; `None`, said aloud, where something is missing.
pub(crate) fn image_with_git(machine: &Machine) -> Option<String> {
    const WITH_GIT: &str = "kubetask-test/git:1";
    if !image(machine) {
        return None;
    }
    let output = |program: &str, args: &[&str]| {
        let out = Command::new(program).args(args).output().ok().filter(|out| out.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let git = output("sh", &["-c", "command -v git"]).map(|path| path.trim().to_owned());
    let libraries = git.as_ref().and_then(|git| output("ldd", &[git]));
    if !require("git, and ldd to find its libraries", libraries.is_some()) {
        return None;
    }
    let context = machine.path("image-with-git");
    let add = |path: &str, to: &str| {
        let to = context.join("root").join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    };
    add(&git.unwrap(), "/bin/git");
    for path in libraries.unwrap().split_whitespace().filter(|word| word.starts_with('/')) {
        add(path, path);
    }
    let file = format!("FROM {IMAGE}\nADD root /\n");
    std::fs::write(context.join("Dockerfile"), file).unwrap();
    docker(&["build", "-q", "-t", WITH_GIT, &context.display().to_string()]).expect("the image with git is built");
    Some(WITH_GIT.to_owned())
}

/// Containers that the data directory's engine has, running or ended.
pub(crate) fn containers(machine: &Machine) -> Vec<String> {
    containers_of(machine.docker_host(), &machine.data_dir())
}

fn containers_of(host: Option<&str>, data_dir: &Path) -> Vec<String> {
    let label = format!("label=io.kubetask.engine.scope={}", data_dir.join("docker").display());
    let listed = docker_at(host, &["ps", "-aq", "--filter", &label]).unwrap_or_default();
    listed.lines().map(str::to_owned).collect()
}

/// Removes what a failed test leaves behind.
pub(crate) struct Leftovers(pub(crate) std::path::PathBuf);

impl Drop for Leftovers {
    fn drop(&mut self) {
        for container in containers_of(None, &self.0) {
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
