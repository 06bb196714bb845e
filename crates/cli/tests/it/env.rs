//! `kubetask env`: environments that stay, on every engine.

use std::time::Duration;

use crate::docker;
use crate::engines::with_cluster;
use crate::machine::{Machine, eventually};

/// A whole life on one engine.
fn life(machine: &Machine, engine: &str, image: &str) {
    let space = machine.path(&format!("space-{engine}"));
    std::fs::create_dir(&space).unwrap();
    std::fs::write(space.join("here"), "from this machine\n").unwrap();
    let space = space.display().to_string();
    let started = machine.kubetask(&[
        "env",
        "start",
        "--name",
        "dev",
        "--engine",
        engine,
        "--image",
        image,
        "--workspace",
        &space,
        "--env",
        "WHO=you",
    ]);
    assert_eq!(started.ok().stdout, "dev\n");
    let again = machine.kubetask(&["env", "start", "--name", "dev", "--engine", engine, "--image", image]).code(2);
    assert!(again.stderr.contains("exists"), "{}", again.stderr);
    let exec = |args: &[&str]| machine.kubetask(&[&["env", "exec"], args].concat());
    let out = exec(&["dev", "--", "sh", "-c", "pwd; cat here; echo $WHO; exit 7"]).code(7);
    assert_eq!(out.stdout, "/workspace\nfrom this machine\nyou\n");
    assert_eq!(
        exec(&["dev", "--workdir", "/tmp", "--env", "A=b", "--", "sh", "-c", "pwd; echo $A"]).ok().stdout,
        "/tmp\nb\n"
    );
    // The test's own user may be the only one there is.
    if rustix::process::geteuid().is_root() && engine != "docker" {
        assert_eq!(exec(&["--user", "1234", "dev", "--", "id", "-u"]).ok().stdout, "1234\n");
    }
    let input = machine.command(&["env", "exec", "-i", "dev", "--", "sh", "-c", "cat > /tmp/in; wc -c < /tmp/in"]);
    let counted = crate::machine::with_input(input, &"x".repeat(300_000)).ok();
    assert_eq!(counted.stdout.trim(), "300000");
    let missing = exec(&["dev", "--", "no-such-program"]).code(1);
    assert!(missing.stderr.contains("no-such-program"), "{}", missing.stderr);

    let sent = machine.path(&format!("sent-{engine}"));
    std::fs::create_dir_all(sent.join("deep")).unwrap();
    std::fs::write(sent.join("deep/file"), "y".repeat(100_000)).unwrap();
    machine.kubetask(&["env", "cp", &sent.display().to_string(), "dev:/tmp/got"]).ok();
    assert_eq!(exec(&["dev", "--", "sh", "-c", "wc -c < /tmp/got/deep/file"]).ok().stdout.trim(), "100000");
    let back = machine.path(&format!("back-{engine}"));
    machine.kubetask(&["env", "cp", "dev:/tmp/got", &back.display().to_string()]).ok();
    assert_eq!(std::fs::read(back.join("deep/file")).unwrap().len(), 100_000);
    machine.kubetask(&["env", "cp", "dev:/no/such", "."]).code(1);

    let list = machine.kubetask(&["env", "list"]).ok().stdout;
    let line = list.lines().nth(1).unwrap_or_default();
    assert!(line.starts_with("dev ") && line.contains(engine) && line.contains("Running"), "{list}");
    machine.kubetask(&["env", "stop", "dev"]).ok();
    machine.kubetask(&["env", "exec", "dev", "--", "true"]).code(2);
    assert_eq!(machine.kubetask(&["env", "list", "-o", "json"]).ok().stdout, "[]\n");
}

#[test]
fn local_environments() {
    let machine = Machine::new();
    life(&machine, "local", "");
    // Without a workspace of anybody's it has its own, which goes with it.
    machine.kubetask(&["env", "start", "--name", "own"]).ok();
    machine.kubetask(&["env", "exec", "own", "--", "sh", "-c", "echo x > /workspace/x && cat x"]).ok();
    machine.kubetask(&["env", "stop", "--all"]).ok();
    let left = std::fs::read_dir(machine.data_dir().join("environments/all")).unwrap().count();
    assert_eq!(left, 0, "nothing is left");
    // What does not stay is said to.
    let ended = machine.kubetask(&["env", "start", "--name", "gone", "--", "/no/such"]).code(1);
    assert!(ended.stderr.contains("/no/such"), "{}", ended.stderr);
    machine.kubetask(&["env", "start", "--pvc", "x"]).code(2);
    assert_eq!(machine.kubetask(&["env", "list", "-o", "name"]).ok().stdout, "");
}

#[test]
fn environments_in_a_cluster() {
    let away = Machine::up();
    let machine = with_cluster(&away);
    life(&machine, "kubernetes", "local/any:1");
    // By the configuration, and with a workspace in a claim that outlives environments.
    let claim = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: space}, spec: {accessModes: [ReadWriteOnce], \
                 resources: {requests: {storage: 1Mi}}}}";
    away.kubetask_with_input(&["apply", "-f", "-"], claim).ok();
    let cluster = format!("kubeconfig: {}, pvc_name: space", away.kubeconfig().display());
    machine.write("config.yaml", format!("runner: {{backend: kubernetes}}\nkubernetes: {{{cluster}}}\n"));
    let start = |name: &str| machine.kubetask(&["env", "start", "--name", name, "--image", "local/any:1"]).ok();
    start("one");
    machine.kubetask(&["env", "exec", "one", "--", "sh", "-c", "echo kept > file"]).ok();
    machine.kubetask(&["env", "stop", "one"]).ok();
    start("two");
    assert_eq!(machine.kubetask(&["env", "exec", "two", "--", "cat", "file"]).ok().stdout, "kept\n");
    machine.kubetask(&["env", "stop", "two"]).ok();
    // Flags win; and why it does not run is told.
    let slow = ["env", "start", "--image", "local/any:1", "--pvc", "none", "--timeout", "3s"];
    let out = machine.kubetask(&slow).code(124);
    assert!(out.stderr.contains("does not run after 3s") && out.stderr.contains("none"), "{}", out.stderr);
    let nowhere = machine.kubetask(&[&slow[..], &["--context", "moon"]].concat()).code(1);
    assert!(nowhere.stderr.contains("moon"), "{}", nowhere.stderr);
    eventually("nothing is left in the cluster", Duration::from_secs(60), || {
        away.kubetask(&["get", "pods", "-o", "name"]).ok().stdout.is_empty()
    });
    assert_eq!(machine.kubetask(&["env", "list", "-o", "name"]).ok().stdout, "");
}

#[test]
fn environments_in_docker() {
    let machine = Machine::new();
    if docker::image(&machine) {
        life(&machine, "docker", docker::IMAGE);
    }
}

/// A repository that git serves on this machine's loopback, with two branches.
struct Served {
    server: std::process::Child,
    url: String,
    first: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// `None`, said aloud, where git or its daemon is missing.
fn served(machine: &Machine) -> Option<Served> {
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "init.defaultBranch=main"]);
        let out = command.args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").output();
        let out = out.ok().filter(|out| out.status.success())?;
        Some(String::from_utf8(out.stdout).unwrap().trim().to_owned())
    };
    let programs = run(&["--exec-path"]).map(std::path::PathBuf::from);
    let daemon = programs.map(|programs| programs.join("git-daemon")).filter(|daemon| daemon.exists());
    if !crate::machine::require("git with git-daemon", daemon.is_some()) {
        return None;
    }
    let root = machine.path("served");
    let repository = root.join("project").display().to_string();
    let git = |args: &[&str]| run(&[&["-C", repository.as_str()], args].concat()).unwrap();
    run(&["init", "-q", &repository]).unwrap();
    let commit = |text: &str| {
        std::fs::write(root.join("project/file"), text).unwrap();
        git(&["add", "file"]);
        git(&["commit", "-q", "-m", text.trim()]);
        git(&["rev-parse", "HEAD"])
    };
    let first = commit("first\n");
    commit("second\n");
    git(&["checkout", "-q", "-b", "other"]);
    commit("other\n");
    git(&["checkout", "-q", "main"]);
    // A port that is free now: whoever takes it meanwhile makes the test try another.
    for _ in 0..20 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = std::process::Command::new(daemon.as_ref().unwrap())
            .args(["--listen=127.0.0.1", &format!("--port={port}"), "--export-all", "--reuseaddr"])
            .arg(format!("--base-path={}", root.display()))
            .arg(&root)
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("git://127.0.0.1:{port}/project");
        eventually("git serves", Duration::from_secs(60), || {
            run(&["ls-remote", &url]).is_some() || server.try_wait().unwrap().is_some()
        });
        if server.try_wait().unwrap().is_none() {
            return Some(Served { server, url, first });
        }
    }
    panic!("no port is free")
}

/// Environments with a repository in their workspace: its branch, another one, a commit, and one that is not there.
fn cloned(machine: &Machine, engine: &str, image: &str) {
    let Some(served) = served(machine) else { return };
    let start = |reference: &str, more: &[&str]| {
        let repository = format!("{}{reference}", served.url);
        let args = ["env", "start", "--name", "g", "--engine", engine, "--image", image, "--git", &repository];
        machine.kubetask(&[&args, more].concat())
    };
    let sh = |script: &str| machine.kubetask(&["env", "exec", "g", "--", "sh", "-c", script]).ok().stdout;
    for (reference, content) in
        [("", "second"), ("#other", "other"), (&format!("#{}", served.first), "first")] as [(&str, &str); 3]
    {
        start(reference, &[]).ok();
        assert_eq!(sh("cat file; git status --porcelain; git log --format=%s -1"), format!("{content}\n{content}\n"));
        machine.kubetask(&["env", "stop", "g"]).ok();
    }
    // Who runs it owns it: otherwise git would not touch it.
    if rustix::process::geteuid().is_root() {
        start("", &["--user", "1234"]).ok();
        assert_eq!(sh("id -u; echo new > file; git status --porcelain"), "1234\n M file\n");
        machine.kubetask(&["env", "stop", "g"]).ok();
    }
    // What cannot be cloned leaves nothing.
    let missing = start("#no-such-branch", &[]).code(1);
    assert!(missing.stderr.contains("no-such-branch"), "{}", missing.stderr);
    start("", &["--env", "PATH=/nowhere"]).code(1);
    assert_eq!(machine.kubetask(&["env", "list", "-o", "name"]).ok().stdout, "");
}

#[test]
fn a_repository_in_a_local_environment() {
    cloned(&Machine::new(), "local", "");
}

#[test]
fn a_repository_in_an_environment_in_docker() {
    let machine = Machine::new();
    if let Some(image) = docker::image_with_git(&machine) {
        cloned(&machine, "docker", &image);
    }
}
