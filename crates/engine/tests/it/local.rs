//! What only the local engine promises: it outlives whoever uses it, leaves nothing behind, and hides the host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kubetask_engine::spec::{ContainerId, ContainerSpec};
use kubetask_engine::{ContainerEngine as _, EngineError, LocalEngine, LocalOptions};

use crate::world::{PATIENCE, World, entries, exec_sh, local_engine, mount, text};

/// Processes whose command line mentions `what`, which is a path that only one test has.
fn processes(what: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(&*what.to_string_lossy()) && pid != std::process::id() as i32 {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, met).await.is_ok(), "never: {what}");
}

fn is_alive(pid: i32) -> bool {
    rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).is_ok()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The shim and the init process of a container; the shim is the other one's parent.
fn shim_of(world: &World, id: &ContainerId) -> i32 {
    let both = processes(&world.path("engine/containers").join(&id.0));
    let parent = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse::<i32>().unwrap()
    };
    *both.iter().find(|&pid| !both.contains(&parent(pid))).unwrap()
}

#[tokio::test]
async fn another_engine_object_goes_on() {
    let Some(world) = World::local().await else { return };
    let spec = world.sh("sleep 0.3; echo done; exit 4");
    let started = world.engine.start(&spec).await.unwrap();
    let other = local_engine(&world.path(""));
    assert_eq!(other.inspect(&spec.id).await.unwrap(), started);
    assert_eq!(other.list(Some(("test", "yes"))).await.unwrap(), std::slice::from_ref(&started));
    assert_eq!(other.start(&spec).await.unwrap(), started);
    let (first, second) = tokio::join!(other.wait(&spec.id), world.engine.wait(&spec.id));
    assert_eq!(first.unwrap().code, 4);
    assert_eq!(second.unwrap().code, 4);
    assert_eq!(text(&spec.log.path), "done\n");
}

/// Not a test: what `killed_engine` runs as a process of its own, and kills.
#[tokio::test]
#[ignore = "run by another test"]
async fn engine_to_be_killed() {
    let scratch = PathBuf::from(std::env::var_os("ENGINE_TEST_SCRATCH").unwrap());
    let spec: ContainerSpec = serde_json::from_slice(&std::fs::read(scratch.join("spec")).unwrap()).unwrap();
    let engine = local_engine(&scratch);
    engine.start(&spec).await.unwrap();
    std::fs::write(scratch.join("started"), "").unwrap();
    engine.wait(&spec.id).await.unwrap();
}

#[tokio::test]
async fn killed_engine() {
    let Some(world) = World::local().await else { return };
    let spec =
        world.sh("echo pid $$; i=0; while [ $i -lt 150 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 9");
    std::fs::write(world.path("spec"), serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["local::engine_to_be_killed", "--exact", "--ignored"])
        .env("ENGINE_TEST_SCRATCH", world.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the container starts", || world.path("started").exists()).await;
    let before = world.engine.inspect(&spec.id).await.unwrap();
    world.printed(&spec, "line 20").await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let after = world.engine.inspect(&spec.id).await.unwrap();
    assert_eq!(after, before, "the same process goes on");
    assert!(is_alive(before.pid.unwrap()));
    assert_eq!(world.engine.start(&spec).await.unwrap(), before, "it is not started again");
    assert_eq!(world.wait(&spec.id).await.code, 9);
    let lines: String = (0..150).map(|i| format!("line {i}\n")).collect();
    assert_eq!(text(&spec.log.path), format!("pid 2\n{lines}"), "every line once");
}

/// Not a test: starts containers until it is killed.
#[tokio::test]
#[ignore = "run by another test"]
async fn engine_to_be_killed_while_starting() {
    let scratch = PathBuf::from(std::env::var_os("ENGINE_TEST_SCRATCH").unwrap());
    let specs: Vec<ContainerSpec> = serde_json::from_slice(&std::fs::read(scratch.join("specs")).unwrap()).unwrap();
    let engine = local_engine(&scratch);
    std::fs::write(scratch.join("started"), "").unwrap();
    futures::future::join_all(specs.iter().map(|spec| engine.start(spec))).await;
}

/// The engine is killed at any moment of many starts: afterwards each container can be started, and ran exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_starting() {
    let Some(world) = World::local().await else { return };
    for round in 0..12u64 {
        let ran = world.directory(&format!("ran{round}"));
        let once = |n| {
            let mut spec = world.sh(&format!("echo $$ >> /ran/{n}; exit {n}"));
            spec.mounts.push(mount(ran.clone(), "/ran", false));
            spec
        };
        let specs: Vec<_> = (0..16).map(once).collect();
        std::fs::write(world.path("specs"), serde_json::to_vec(&specs).unwrap()).unwrap();
        let mut daemon = Command::new(std::env::current_exe().unwrap())
            .args(["local::engine_to_be_killed_while_starting", "--exact", "--ignored"])
            .env("ENGINE_TEST_SCRATCH", world.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the engine starts", || world.path("started").exists()).await;
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        std::fs::remove_file(world.path("started")).unwrap();
        let finish = async |spec: &ContainerSpec| {
            world.engine.start(spec).await.unwrap();
            world.wait(&spec.id).await
        };
        let exits = futures::future::join_all(specs.iter().map(finish)).await;
        for (n, exit) in exits.into_iter().enumerate() {
            assert_eq!((exit.code as usize, exit.error), (n, None));
            let lines = std::fs::read_to_string(ran.join(n.to_string())).unwrap();
            assert_eq!(lines.lines().count(), 1, "round {round}, container {n}: {lines:?}");
        }
    }
}

/// Shims are killed at any moment: each container ran at most once, and its end is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shims_killed_at_any_moment() {
    let Some(world) = World::local().await else { return };
    let ran = world.directory("ran");
    let run = async |n: u64| {
        let mut spec = world.sh(&format!("echo once >> /ran/{n}; sleep 0.02"));
        spec.mounts.push(mount(ran.clone(), "/ran", false));
        let directory = world.path("engine/containers").join(&spec.id.0);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(n)).await;
            for pid in processes(&directory) {
                let _ = rustix::process::kill_process(
                    rustix::process::Pid::from_raw(pid).unwrap(),
                    rustix::process::Signal::KILL,
                );
            }
        };
        // The start may fail, or have to be made again; what counts is what is known afterwards.
        let (_, ()) = tokio::join!(world.engine.start(&spec), killing);
        let _ = world.engine.start(&spec).await;
        let exit = world.wait(&spec.id).await;
        let lines = std::fs::read_to_string(ran.join(n.to_string())).unwrap_or_default();
        assert!(lines.lines().count() <= 1, "{lines:?}");
        assert!(exit.code == 137 || exit.code == 128 || lines == "once\n", "{exit:?}");
        world.engine.remove(&spec.id).await.unwrap();
    };
    for n in 0..60 {
        run(n).await;
    }
    until("all processes are gone", || processes(&world.path("engine")).is_empty()).await;
}

#[tokio::test]
async fn killed_shim() {
    let Some(world) = World::local().await else { return };
    let spec = world.sh("(while :; do sleep 1; done) & echo up; sleep 1000");
    let id = world.start(&spec).await;
    world.printed(&spec, "up").await;
    let pid = world.engine.inspect(&id).await.unwrap().pid.unwrap();
    let waiting = tokio::spawn({
        let (engine, id) = (world.engine.clone(), id.clone());
        async move { engine.wait(&id).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    kill(shim_of(&world, &id));
    let exit = waiting.await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert_eq!(exit.error.as_deref(), Some("its supervising process was killed"));
    assert!(!is_alive(pid), "nothing of it runs on");
    assert_eq!(world.engine.inspect(&id).await.unwrap().exit, Some(exit.clone()));
    assert_eq!(world.engine.start(&spec).await.unwrap().exit, Some(exit), "and it is not started again");
}

#[tokio::test]
async fn killed_init() {
    let Some(world) = World::local().await else { return };
    let spec = world.sh("sleep 1000");
    let id = world.start(&spec).await;
    let shim = shim_of(&world, &id);
    let all = processes(&world.path("engine/containers").join(&id.0));
    kill(*all.iter().find(|&&pid| pid != shim).unwrap());
    let exit = world.wait(&id).await;
    assert_eq!((exit.code, exit.error.as_deref()), (137, Some("killed from outside, with everything in it")));
}

/// Whatever a crash left in the directory: started at most once, and startable if it never was.
#[tokio::test]
async fn crashes_while_starting() {
    let Some(world) = World::local().await else { return };
    let check = async |files: &[(&str, &str)], starts: bool| {
        let spec = world.sh("echo ran");
        let directory = world.path("engine/containers").join(&spec.id.0);
        std::fs::create_dir(&directory).unwrap();
        for (name, content) in files {
            std::fs::write(directory.join(name), content).unwrap();
        }
        assert_eq!(world.engine.inspect(&spec.id).await.is_err(), starts, "{files:?}");
        assert_eq!(world.engine.list(None).await.unwrap().iter().any(|state| state.id == spec.id), !starts);
        world.engine.start(&spec).await.unwrap();
        let exit = world.wait(&spec.id).await;
        assert_eq!(
            (exit.code, text(&spec.log.path).as_str()),
            if starts { (0, "ran\n") } else { (137, "") },
            "{files:?}"
        );
    };
    check(&[], true).await;
    check(&[("spec.json", "{\"spec\":")], true).await;
    check(&[(".spec.json.1.0", "{")], true).await;
    check(&[("lock", "")], true).await;
    check(&[("lock", ""), ("s", "")], true).await;
    let spec = world.sh("echo ran");
    let mut config = serde_json::json!({"spec": spec, "sandbox": {"ownBinary": null, "hide": [], "expose": [], "env": [], "hostHome": null}});
    config["spec"]["id"] = "c6".into();
    let config = config.to_string();
    check(&[("spec.json", &config), ("lock", ""), ("launched", "")], false).await;
}

#[tokio::test]
async fn starts_at_the_same_time_from_several_engines() {
    let Some(world) = World::local().await else { return };
    for _ in 0..10 {
        let spec = world.sh("echo ran; sleep 0.05");
        let engines: Vec<_> = (0..4).map(|_| local_engine(&world.path(""))).collect();
        let starts = engines.iter().map(|engine| engine.start(&spec));
        let states: Vec<_> = futures::future::join_all(starts).await.into_iter().map(Result::unwrap).collect();
        assert!(states.windows(2).all(|pair| pair[0].started_at_nanos == pair[1].started_at_nanos), "{states:?}");
        world.wait(&spec.id).await;
        assert_eq!(text(&spec.log.path), "ran\n");
    }
}

#[tokio::test]
async fn the_host_is_hidden() {
    let Some(world) = World::local().await else { return };
    let secret = world.path("engine/secret");
    std::fs::write(&secret, "kubetask data").unwrap();
    let other = world.directory("engine/containers/other");
    std::fs::write(other.join("spec.json"), "{}").unwrap();
    let script = format!(
        "cat {engine}/secret /again/engine/secret /etc/shadow; ls {engine}/containers /again/engine; ls -A /mnt /boot; \
         ls -A $HOME | grep -x -e .ssh -e .kube -e .aws -e .config; ls /run/docker.sock /var/run/docker.sock; \
         cat /proc/1/environ /proc/1/fd/0; ls /proc/1/root; kill -9 1; kill -TERM 1; readlink /proc/1/exe; echo alive",
        engine = world.path("engine").display()
    );
    let mut spec = world.sh(&script);
    spec.mounts.push(mount(world.path(""), "/again", true));
    world.run(&spec).await;
    let output: Vec<_> = entries(&spec.log.path).into_iter().filter(|(stream, ..)| stream == "stdout").collect();
    let output: Vec<_> = output.iter().map(|(.., text)| String::from_utf8_lossy(text)).collect();
    let found: Vec<_> = output.iter().filter(|line| !line.is_empty() && !line.ends_with(':')).collect();
    assert_eq!(found, ["alive"]);
}

#[tokio::test]
async fn outsiders_cannot_reach_the_control_socket() {
    let Some(world) = World::local().await else { return };
    let id = world.start(&world.sh("sleep 1000")).await;
    let mode = |path: PathBuf| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    let directory = world.path("engine/containers").join(&id.0);
    assert_eq!((mode(world.path("engine")), mode(directory.clone())), (0o700, 0o700));
    assert_eq!((mode(directory.join("s")), mode(directory.join("spec.json"))), (0o600, 0o600));
    world.engine.stop(&id, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn long_paths() {
    let Some(world) = World::local().await else { return };
    let engine = local_engine(&world.path(&"long-directory-name/".repeat(10)));
    let mut spec = world.sh("sleep 1000");
    spec.id.0 = "x".repeat(200);
    engine.start(&spec).await.unwrap();
    let session = engine.exec(&spec.id, &exec_sh("exit 6")).await.unwrap();
    assert_eq!(session.exit.await.unwrap().unwrap(), 6);
    assert_eq!(engine.stop(&spec.id, Duration::ZERO).await.unwrap().code, 137);
    engine.remove(&spec.id).await.unwrap();
}

#[tokio::test]
async fn memory_limit() {
    let Some(world) = World::local().await else { return };
    if !world.engine.probe().await.unwrap().description.contains("memory") {
        return eprintln!("SKIPPED: memory is not limited here");
    }
    let mut spec = world.command(&["awk", "BEGIN { s = \"x\"; while (1) s = s s }"]);
    spec.resources.memory_bytes = Some(32 << 20);
    let exit = world.run(&spec).await;
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    let mut spec = world.sh("for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; true");
    spec.resources.pids = Some(4);
    world.run(&spec).await;
    assert!(text(&spec.log.path).contains("fork"), "{}", text(&spec.log.path));
    let groups = Command::new("find").args(["/sys/fs/cgroup", "-name", "kubetask-c*"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&groups.stdout), "", "control groups are taken away");
}

/// A shim that is killed before it has put anything on record may have made control groups.
#[tokio::test]
async fn groups_of_a_shim_that_ended_without_a_word_are_taken_away() {
    let Some(world) = World::local().await else { return };
    let silent = world.path("silent");
    // It makes what a shim makes first, and that is all of it.
    let script = "#!/bin/sh\nfor group in $(grep -o '\"/sys/fs/cgroup/[^\"]*' \"$3/spec.json\" | tr -d '\"'); do mkdir $group; done\n";
    std::fs::write(&silent, script).unwrap();
    std::fs::set_permissions(&silent, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let options = LocalOptions { shim: silent.clone(), own_binary: silent, ..LocalOptions::default() };
    let engine = LocalEngine::new(world.path("other"), options).unwrap();
    let mut spec = world.sh("true");
    spec.id.0 = format!("silent-{}", std::process::id());
    spec.resources.memory_bytes = Some(64 << 20);
    let groups = || {
        let name = format!("kubetask-{}", spec.id.0);
        let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output().unwrap();
        String::from_utf8(found.stdout).unwrap()
    };
    assert!(matches!(engine.start(&spec).await, Err(EngineError::Io { .. })));
    if groups().is_empty() {
        return eprintln!("SKIPPED: no control groups can be made here");
    }
    engine.remove(&spec.id).await.unwrap();
    assert_eq!(groups(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left() {
    let Some(world) = World::local().await else { return };
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (mounts_before, descriptors_before) = (mounts(), descriptors());
    for round in 0..10 {
        let specs: Vec<_> = (0..20)
            .map(|n| world.sh(&format!("sleep 0.0{} & echo hi; chmod 0 $HOME; mkdir -m 0 /tmp/x", n % 7)))
            .collect();
        let run = async |spec: &ContainerSpec| {
            world.start(spec).await;
            match round % 3 {
                0 => drop(world.engine.stop(&spec.id, Duration::ZERO).await.unwrap()),
                1 => drop(world.wait(&spec.id).await),
                _ => {
                    let _ = world.engine.exec(&spec.id, &exec_sh("sleep 1000")).await;
                    let _ = world.engine.attach(&spec.id, false).await;
                    world.wait(&spec.id).await;
                }
            }
            world.engine.remove(&spec.id).await.unwrap();
        };
        futures::future::join_all(specs.iter().map(run)).await;
    }
    assert_eq!(world.engine.list(None).await.unwrap(), []);
    until("all processes are gone", || processes(&world.path("engine")).is_empty()).await;
    assert_eq!(mounts(), mounts_before);
    until("all descriptors are closed", || descriptors() <= descriptors_before + 2).await;
    let left: BTreeSet<_> =
        std::fs::read_dir(world.path("engine/containers")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, BTreeSet::new());
}

/// All cases again as an ordinary user, in user namespaces, where this test runs as root.
#[tokio::test]
async fn as_an_ordinary_user() {
    let Some(world) = World::local().await else { return };
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: already an ordinary user");
    }
    // The build directory may be out of that user's reach.
    let home = world.directory("nobody");
    let copy = |from: PathBuf, name: &str| {
        let to = home.join(name);
        std::fs::copy(from, &to).unwrap();
        to
    };
    std::fs::set_permissions(world.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let shim = copy(env!("CARGO_BIN_EXE_kubetask-engine-shim").into(), "shim");
    let test = copy(std::env::current_exe().unwrap(), "it");
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(test)
        .args(["local::", "--skip", "as_an_ordinary_user", "--test-threads", "2"])
        .env("ENGINE_TEST_SHIM", shim)
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .current_dir(&home)
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}");
            assert!(text.contains("exit_codes ... ok"), "{text}");
        }
        Err(error) => eprintln!("SKIPPED: setpriv: {error}"),
    }
}
