//! What every engine must do. Each case gets a fresh [`World`]; [`suite!`] makes a test of each for an engine.

use std::time::{Duration, Instant};

use kubetask_engine::EngineError;
use kubetask_engine::spec::{ContainerId, Network};
use kubetask_engine::traits::{ExecSpec, TermSize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, collect, entries, exec_sh, mount, text};

/// Makes a test of each case named, in a module named like the engine.
macro_rules! suite {
    ($engine:ident: $($case:ident),* $(,)?) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(world) = crate::world::World::$engine().await {
                        super::$case(&world).await;
                    }
                }
            )*
        }
    };
}

suite!(local:
    exit_codes, ended_by_a_signal, started_twice_runs_once, unknown_containers, labels, removal, stop_asks_first,
    stop_ends_what_does_not_listen, stop_without_grace, program_not_found, program_not_executable, lines_and_streams,
    binary_output, much_output, rotated_logs, environment, files_and_directories_are_mounted, mounts_in_missing_places,
    read_only_root, users_and_groups, no_network, zombies_are_reaped, exec_output_and_code, exec_input,
    exec_user, exec_not_found, exec_terminal, dropped_exec_is_killed, exec_in_an_ended_container, attach_input_and_output,
    attach_to_a_terminal, detached_input_stays_open, own_image_runs_own_binary, wrong_specifications,
);
suite!(bwrap:
    exit_codes, ended_by_a_signal, started_twice_runs_once, stop_asks_first, stop_ends_what_does_not_listen,
    stop_without_grace, program_not_found, program_not_executable, lines_and_streams, much_output, environment,
    read_only_root, users_and_groups, no_network, zombies_are_reaped, exec_output_and_code, exec_input, exec_user,
    exec_not_found, exec_terminal, dropped_exec_is_killed, attach_input_and_output, attach_to_a_terminal,
    own_image_runs_own_binary,
);
// Left out: the program is the first process of its container, so it cannot kill itself and inherits zombies; a dropped
// attach closes the input; mount points are made by the daemon; there is no own image.
suite!(docker:
    exit_codes, started_twice_runs_once, unknown_containers, labels, removal, stop_asks_first,
    stop_ends_what_does_not_listen, stop_without_grace, program_not_found, program_not_executable, lines_and_streams,
    binary_output, much_output, rotated_logs, environment, files_and_directories_are_mounted, mounts_in_missing_places,
    read_only_root, users_and_groups, no_network, exec_output_and_code, exec_input, exec_user, exec_not_found,
    exec_terminal, dropped_exec_is_killed, exec_in_an_ended_container, attach_input_and_output, attach_to_a_terminal,
);
// Left out besides: own network namespaces are refused (see `no_network`), and a dropped session only cuts its program off.
suite!(kubernetes:
    exit_codes, started_twice_runs_once, unknown_containers, labels, removal, stop_asks_first,
    stop_ends_what_does_not_listen, stop_without_grace, program_not_found, program_not_executable, lines_and_streams,
    binary_output, much_output, rotated_logs, environment, mounts_in_missing_places, read_only_root, users_and_groups,
    no_network, exec_output_and_code, exec_input, exec_user, exec_not_found, exec_terminal, exec_in_an_ended_container,
    attach_input_and_output, attach_to_a_terminal,
);
suite!(kubernetes_here: files_and_directories_are_mounted, mounts_in_missing_places, environment, read_only_root);
// Left out besides: with a read-only root Podman 4.3 keeps /tmp, /run and /var/tmp writable, and cannot be told not to.
suite!(podman:
    exit_codes, started_twice_runs_once, unknown_containers, labels, removal, stop_asks_first,
    stop_ends_what_does_not_listen, stop_without_grace, program_not_found, program_not_executable, lines_and_streams,
    binary_output, much_output, rotated_logs, environment, files_and_directories_are_mounted, mounts_in_missing_places,
    users_and_groups, no_network, exec_output_and_code, exec_input, exec_user, exec_not_found,
    exec_terminal, dropped_exec_is_killed, exec_in_an_ended_container, attach_input_and_output, attach_to_a_terminal,
);
suite!(fake:
    exit_codes, started_twice_runs_once, unknown_containers, labels, removal, stop_asks_first, stop_without_grace,
    program_not_found, exec_in_an_ended_container,
);

async fn exit_codes(world: &World) {
    for code in [0, 1, 3, 255] {
        let exit = world.run(&world.sh(&format!("exit {code}"))).await;
        assert_eq!((exit.code, exit.signal, exit.oom_killed, exit.error), (code, None, false, None));
        assert!(exit.finished_at_nanos > 1_600_000_000_000_000_000);
    }
}

async fn ended_by_a_signal(world: &World) {
    for (signal, code) in [(9, 137), (15, 143), (6, 134)] {
        let exit = world.run(&world.sh(&format!("kill -{signal} $$"))).await;
        assert_eq!((exit.code, exit.signal), (code, Some(signal)));
    }
}

async fn started_twice_runs_once(world: &World) {
    let spec = world.sh("echo ran; sleep 1000");
    let starts = (0..8).map(|_| world.engine.start(&spec));
    let states: Vec<_> = futures::future::join_all(starts).await.into_iter().map(Result::unwrap).collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "{states:?}");
    assert_eq!(world.engine.start(&spec).await.unwrap(), states[0]);
    let exit = world.engine.stop(&spec.id, Duration::ZERO).await.unwrap();
    assert_eq!(world.engine.start(&spec).await.unwrap().exit, Some(exit), "an ended one does not start again");
    assert!(text(&spec.log.path).matches("ran").count() <= 1);
}

async fn unknown_containers(world: &World) {
    let id = ContainerId("nobody".to_owned());
    let is_not_found =
        |error: Option<EngineError>| assert!(matches!(error, Some(EngineError::NotFound(_))), "{error:?}");
    is_not_found(world.engine.inspect(&id).await.err());
    is_not_found(world.engine.wait(&id).await.err());
    is_not_found(world.engine.stop(&id, Duration::ZERO).await.err());
    is_not_found(world.engine.exec(&id, &exec_sh("true")).await.err());
    is_not_found(world.engine.attach(&id, false).await.err());
    world.engine.remove(&id).await.unwrap();
}

async fn labels(world: &World) {
    let (mut red, blue) = (world.sh("sleep 1000"), world.sh("exit 0"));
    red.labels.insert("colour".to_owned(), "red".to_owned());
    let (red, blue) = (world.start(&red).await, world.start(&blue).await);
    world.wait(&blue).await;
    let listed = async |label| {
        let states = world.engine.list(label).await.unwrap();
        let mut ids: Vec<_> = states.into_iter().map(|state| (state.id, state.exit.is_some())).collect();
        ids.sort();
        ids
    };
    assert_eq!(listed(None).await, [(red.clone(), false), (blue.clone(), true)]);
    assert_eq!(listed(Some(("colour", "red"))).await, [(red.clone(), false)]);
    assert_eq!(listed(Some(("colour", "blue"))).await, []);
    world.engine.stop(&red, Duration::ZERO).await.unwrap();
}

async fn removal(world: &World) {
    let spec = world.sh("sleep 1000");
    let id = world.start(&spec).await;
    assert!(matches!(world.engine.remove(&id).await, Err(EngineError::Invalid(_))), "it runs");
    world.engine.stop(&id, Duration::ZERO).await.unwrap();
    world.engine.remove(&id).await.unwrap();
    world.engine.remove(&id).await.unwrap();
    assert!(matches!(world.engine.inspect(&id).await, Err(EngineError::NotFound(_))));
    assert!(spec.log.path.exists(), "the log stays");
}

async fn stop_asks_first(world: &World) {
    let spec = world.sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done");
    let id = world.start(&spec).await;
    if world.engine.name() != "fake" {
        world.printed(&spec, "ready").await;
    }
    let begun = Instant::now();
    let exit = world.engine.stop(&id, Duration::from_secs(50)).await.unwrap();
    assert_eq!(exit.code, 7);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(world.engine.stop(&id, Duration::ZERO).await.unwrap(), exit, "stopping again changes nothing");
}

async fn stop_ends_what_does_not_listen(world: &World) {
    let spec =
        world.sh("trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo ready; while :; do sleep 1; done");
    let id = world.start(&spec).await;
    world.printed(&spec, "ready").await;
    let begun = Instant::now();
    let exit = world.engine.stop(&id, Duration::from_millis(300)).await.unwrap();
    assert_eq!((exit.code, exit.signal, exit.error), (137, Some(9), None));
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

async fn stop_without_grace(world: &World) {
    let id = world.start(&world.sh("sleep 1000")).await;
    let exit = world.engine.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(exit.code, 137);
    assert_eq!(world.wait(&id).await, exit);
}

async fn program_not_found(world: &World) {
    let spec = world.command(&["/no/such/binary"]);
    let error = world.engine.start(&spec).await.unwrap_err();
    let EngineError::Start(message) = &error else { panic!("{error:?}") };
    assert!(message.contains("no such file or directory"), "{message}");
    let exit = world.engine.inspect(&spec.id).await.unwrap().exit.expect("it counts as ended");
    assert_eq!((exit.code, exit.signal), (128, None));
    assert_eq!(exit.error.as_ref(), Some(message));
    assert_eq!(world.wait(&spec.id).await, exit);
    if world.engine.name() == "local" {
        let error = world.engine.start(&world.command(&["no-such-program"])).await.unwrap_err().to_string();
        assert_eq!(
            error,
            r#"cannot start container: unable to start container process: exec: "no-such-program": executable file not found in $PATH"#
        );
        assert_eq!(
            message,
            r#"unable to start container process: exec: "/no/such/binary": stat /no/such/binary: no such file or directory"#
        );
    }
}

async fn program_not_executable(world: &World) {
    let check = async |program: &str, part: &str| {
        let error = world.engine.start(&world.command(&[program])).await.unwrap_err().to_string();
        assert!(error.contains(part), "{program}: {error}");
    };
    check("/etc/passwd", "exec: \"/etc/passwd\": permission denied").await;
    check("/etc", "exec: \"/etc\": ").await;
    let mut spec = world.sh("true");
    spec.working_dir = Some("/etc/passwd".into());
    let error = world.engine.start(&spec).await.unwrap_err().to_string();
    assert!(error.contains("not a directory"), "{error}");
}

async fn lines_and_streams(world: &World) {
    let spec = world.sh("echo one; echo two >&2; printf 'three'; printf ' four\\n\\nfive'");
    world.run(&spec).await;
    let entry = |stream: &str, tag: &str, text: &str| (stream.to_owned(), tag.to_owned(), text.as_bytes().to_vec());
    let mut all = entries(&spec.log.path);
    if world.engine.name() == "kubernetes" {
        // A cluster does not tell them apart.
        let second = all.iter_mut().find(|(.., text)| text == b"two").expect("it is there");
        second.0 = "stderr".to_owned();
    }
    let (output, errors): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, ..)| name == "stdout");
    let expect = [("F", "one"), ("F", "three four"), ("F", ""), ("P", "five")];
    assert_eq!(output, expect.map(|(tag, text)| entry("stdout", tag, text)));
    assert_eq!(errors, [entry("stderr", "F", "two")]);
}

async fn binary_output(world: &World) {
    let source = world.path("random");
    let random: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&source, &random).unwrap();
    let mut spec = world.command(&["cat", "/data"]);
    spec.mounts.push(mount(source, "/data", true));
    world.run(&spec).await;
    let mut back = Vec::new();
    for (_, tag, text) in entries(&spec.log.path) {
        back.extend(text);
        back.extend(if tag == "F" { &b"\n"[..] } else { b"" });
    }
    // Splitting at line breaks drops empty texts' nothing, so this is exact.
    assert!(back == random, "{} of {} bytes", back.len(), random.len());
}

async fn much_output(world: &World) {
    let spec = world.sh("i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; head -c 10000000 /dev/zero | tr '\\0' x; echo; echo end");
    let begun = Instant::now();
    world.run(&spec).await;
    let text = text(&spec.log.path);
    let expect: String = (0..200).map(|i| format!("line {i}\n")).collect();
    assert!(text.starts_with(&expect));
    let end = text.get(text.len().saturating_sub(60)..).unwrap_or_default();
    assert!(text.ends_with("x\nend\n"), "{} bytes, the last {end:?}", text.len());
    assert_eq!(text.len(), expect.len() + 10_000_000 + 5);
    assert!(begun.elapsed() < Duration::from_secs(30));
}

async fn rotated_logs(world: &World) {
    let mut spec = world.sh("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done");
    (spec.log.max_bytes, spec.log.max_files) = (10_000, 3);
    world.run(&spec).await;
    let file = |number: &str| spec.log.path.with_file_name(format!("{}.log{number}", spec.id.0));
    assert!(!file(".3").exists());
    let sizes = ["", ".1", ".2"].map(|number| std::fs::metadata(file(number)).unwrap().len());
    assert!(sizes.iter().all(|&size| size > 0 && size < 10_100), "{sizes:?}");
    let kept: String = [".2", ".1", ""].map(|number| text(&file(number))).concat();
    let all: String = (0..3000).map(|i| format!("line {i}\n")).collect();
    assert!(all.ends_with(&kept), "the newest lines, all of them, in order");
}

async fn environment(world: &World) {
    let mut spec = world.sh("echo $A/$B; hostname; pwd; for v in HOME PATH HOSTNAME; do env | grep ^$v=; done");
    let env = [("A", "1"), ("B", "x y"), ("A", "2"), ("PATH", "/usr/bin:/bin"), ("HOME", "/somewhere")];
    spec.env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    spec.hostname = Some("box".to_owned());
    spec.working_dir = Some("/usr".into());
    assert_eq!(world.output(&spec).await, "2/x y\nbox\n/usr\nHOME=/somewhere\nPATH=/usr/bin:/bin\nHOSTNAME=box\n");
    let mut spec = world.command(&["sh"]);
    spec.args = ["-c", "echo $0 $#", "zero", "one", ""].map(str::to_owned).to_vec();
    assert_eq!(world.output(&spec).await, "zero 2\n");
    if world.has_images() {
        return;
    }
    // Without an image to say where, it is there.
    let mut spec = world.sh("pwd; ls");
    let workspace = world.directory("space");
    std::fs::write(workspace.join("here"), "").unwrap();
    spec.mounts.push(mount(workspace, "/workspace", false));
    assert_eq!(world.output(&spec).await, "/workspace\nhere\n");
}

async fn files_and_directories_are_mounted(world: &World) {
    let (space, guide) = (world.directory("work"), world.path("guide"));
    std::fs::write(&guide, "read me\n").unwrap();
    let mut spec = world.sh("cat /workspace/task.md; echo new > /workspace/out; cat /workspace/sub/task.md; \
         echo no > /workspace/task.md || echo refused; echo no > /volume/x || echo refused; mount | grep -c /volume");
    spec.mounts = vec![
        mount(space.clone(), "/workspace", false),
        mount(guide.clone(), "/workspace/task.md", true),
        mount(guide.clone(), "/workspace/sub/task.md", true),
        mount(space.clone(), "/volume", true),
    ];
    let text = world.output(&spec).await;
    assert_eq!(text.matches("read me\n").count(), 2, "{text}");
    assert_eq!(text.matches("refused\n").count(), 2, "{text}");
    assert_eq!(std::fs::read_to_string(space.join("out")).unwrap(), "new\n");
    assert!(world.has_images() || !space.join("task.md").exists(), "the mount point is taken away again");
    assert_eq!(std::fs::read_to_string(&guide).unwrap(), "read me\n");
    if world.engine.name() == "kubernetes" {
        // What the nodes lack only they know.
        return;
    }
    spec = world.sh("true");
    spec.mounts = vec![mount(world.path("missing"), "/x", false)];
    let error = world.engine.start(&spec).await.unwrap_err().to_string();
    let words = if world.has_images() { "missing" } else { "missing at /x: no such file or directory" };
    assert!(error.contains(words), "{error}");
}

async fn mounts_in_missing_places(world: &World) {
    let token = world.path("token");
    std::fs::write(&token, "secret").unwrap();
    let targets = [
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/etc/agent/config",
        "/a/b/c",
        "/usr/local/bin/guide",
        "/home/someone/.config/key",
        "/tmp/in/tmp",
        "/etc/passwd",
    ];
    let mut spec =
        world.sh(&format!("for f in {}; do cat $f || exit 1; done; ls /usr/bin/env /etc/hosts", targets.join(" ")));
    spec.mounts = targets.iter().map(|target| mount(token.clone(), target, true)).collect();
    let text = world.output(&spec).await;
    assert_eq!(text.matches("secret").count(), targets.len(), "{text}");
    assert!(text.contains("/usr/bin/env\n"), "the neighbours are still there: {text}");
    let mut spec = world.sh("true");
    spec.mounts = vec![mount(token, "/usr", true)];
    let error = world.engine.start(&spec).await.unwrap_err().to_string();
    assert!(error.contains("/usr") && error.to_lowercase().contains("not a directory"), "{error}");
}

async fn read_only_root(world: &World) {
    let attempts = "/x /usr/x /etc/x /var/x /root/x /home/x /dev/x";
    let script = format!(
        "for f in {attempts} /tmp/x /var/tmp/x $HOME/x /data/x; do (: > $f) 2>/dev/null && echo $f; done; true"
    );
    let mut spec = world.sh(&script);
    spec.env.push(("HOME".to_owned(), "/data/..".to_owned()));
    spec.mounts.push(mount(world.directory("data"), "/data", false));
    let text = world.output(&spec).await;
    let written: Vec<_> = text.lines().filter(|path| !path.starts_with("/root")).collect();
    if !world.has_images() {
        assert_eq!(written, ["/tmp/x", "/var/tmp/x", "/data/x"], "only private and mounted directories");
    }
    let script = script.replace("/dev/x", "");
    let mut spec = world.sh(&script);
    spec.security.read_only_root = true;
    spec.mounts.push(mount(world.directory("data"), "/data", false));
    assert_eq!(world.output(&spec).await, "/data/x\n");
}

async fn users_and_groups(world: &World) {
    let mut spec = world.sh("id -u; id -g; touch /tmp/f && touch $HOME/f && stat -c %u /tmp/f; echo x > /dev/stdout; grep -E 'NoNewPrivs|CapEff' /proc/self/status");
    (spec.security.run_as_user, spec.security.run_as_group) = (Some(12345), Some(23456));
    if world.has_images() {
        // Where somebody without a name is at home is the image's business.
        spec.env.push(("HOME".to_owned(), "/tmp".to_owned()));
    }
    let text = world.output(&spec).await;
    assert_eq!(text, "12345\n23456\n12345\nx\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
    let mut spec = world.sh("grep -E 'CapBnd|NoNewPrivs' /proc/self/status");
    spec.security.drop_capabilities = vec!["ALL".to_owned()];
    assert_eq!(world.output(&spec).await, "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n");
}

async fn no_network(world: &World) {
    let mut spec = world.sh("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '");
    spec.network = Network::None;
    if world.engine.name() == "kubernetes" {
        let refused = world.engine.start(&spec).await;
        return assert!(matches!(refused, Err(EngineError::Unsupported { .. })), "{refused:?}");
    }
    assert_eq!(world.output(&spec).await, "lo\n");
}

async fn zombies_are_reaped(world: &World) {
    // The children's parent ends before them, so only the first process of the container can take them.
    let spec = world.sh("for i in 1 2 3 4 5; do (sleep 0.05 & ) ; done; sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status; echo checked");
    assert_eq!(world.output(&spec).await, "checked\n");
}

async fn exec_output_and_code(world: &World) {
    let mut spec = world.sh("sleep 1000");
    spec.env.push(("WHO".to_owned(), "container".to_owned()));
    let id = world.start(&spec).await;
    let (code, output, errors) = world.exec(&id, exec_sh("echo \"$WHO,$ME\"; echo oh >&2; exit 5")).await;
    assert_eq!((code, output.as_str(), errors.as_str()), (5, "container,\n", "oh\n"));
    let more = ExecSpec {
        env: vec![("ME".to_owned(), "exec".to_owned()), ("WHO".to_owned(), "both".to_owned())],
        working_dir: Some("/usr".into()),
        ..exec_sh("echo $WHO $ME; pwd; kill -9 $$")
    };
    assert_eq!(world.exec(&id, more).await, (137, "both exec\n/usr\n".to_owned(), String::new()));
    let many = (0..20).map(|n| async move { world.exec(&id_of(world), exec_sh(&format!("echo {n}; exit {n}"))).await });
    for (n, (code, output, _)) in futures::future::join_all(many).await.into_iter().enumerate() {
        assert_eq!((code as usize, output), (n, format!("{n}\n")));
    }
    world.engine.stop(&id, Duration::ZERO).await.unwrap();
}

/// The first container of a world.
fn id_of(_: &World) -> ContainerId {
    ContainerId("c0".to_owned())
}

async fn exec_input(world: &World) {
    let id = world.start(&world.sh("sleep 1000")).await;
    let spec = ExecSpec { stdin: true, ..exec_sh("wc -c") };
    let mut session = world.engine.exec(&id, &spec).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    let writing = tokio::spawn(async move {
        stdin.write_all(&vec![b'x'; 1_000_000]).await.unwrap();
        // Dropping it ends the input.
    });
    let (code, output, _) = collect(session).await;
    writing.await.unwrap();
    assert_eq!((code, output.trim()), (0, "1000000"));
    let (code, output, _) = world.exec(&id, exec_sh("cat; echo end")).await;
    assert_eq!((code, output.as_str()), (0, "end\n"), "without input there is none");
    world.engine.stop(&id, Duration::ZERO).await.unwrap();
}

async fn exec_user(world: &World) {
    let id = world.start(&world.sh("sleep 1000")).await;
    let spec = ExecSpec { user: Some(4321), ..exec_sh("id -u; grep CapEff /proc/self/status") };
    if !world.single_user {
        let (code, output, errors) = world.exec(&id, spec).await;
        assert_eq!((code, output.as_str()), (0, "4321\nCapEff:\t0000000000000000\n"), "{errors}");
    } else {
        let Err(EngineError::Start(why)) = world.engine.exec(&id, &spec).await else { panic!("it runs") };
        assert!(why.contains("only the container's own user exists"), "{why}");
    }
    world.engine.stop(&id, Duration::ZERO).await.unwrap();
}

async fn exec_not_found(world: &World) {
    let id = world.start(&world.sh("sleep 1000")).await;
    let command = |name: &str| ExecSpec { command: vec![name.to_owned()], ..ExecSpec::default() };
    let refused = async |name: &str| match world.engine.exec(&id, &command(name)).await {
        Err(EngineError::Start(why)) => why,
        Err(error) => panic!("{name}: {error}"),
        Ok(session) => late(session).await,
    };
    assert!(refused("no-such-program").await.contains("\"no-such-program\": executable file not found in $PATH"));
    assert!(refused("/etc/passwd").await.to_lowercase().contains("permission denied"));
    assert!(refused("/no/such").await.to_lowercase().contains("no such file or directory"));
    let in_terminal = ExecSpec { tty: true, ..command("no-such-program") };
    match world.engine.exec(&id, &in_terminal).await {
        Err(EngineError::Start(_)) => {}
        Err(error) => panic!("{error}"),
        Ok(session) => drop(late(session).await),
    }
    // What could not be run leaves nothing behind, and the next one can.
    assert_eq!(world.exec(&id, exec_sh("echo still here")).await.1, "still here\n");
    let spec = ExecSpec { command: vec!["x".repeat(3_000_000)], ..ExecSpec::default() };
    assert!(matches!(world.engine.exec(&id, &spec).await, Err(EngineError::Start(_))), "too long");
    world.engine.stop(&id, Duration::ZERO).await.unwrap();
}

/// Why a program could not be run, of an engine that is told only later.
async fn late(session: kubetask_engine::traits::Session) -> String {
    match tokio::time::timeout(crate::world::PATIENCE, session.exit).await {
        Ok(Ok(Err(EngineError::Start(why)))) => why,
        other => panic!("it runs: {other:?}"),
    }
}

async fn exec_terminal(world: &World) {
    let id = world.start(&world.sh("sleep 1000")).await;
    let script = "tty; read line; echo got $line; stty size; test -t 2 && exit 3";
    let spec = ExecSpec { tty: true, stdin: true, ..exec_sh(script) };
    let mut session = world.engine.exec(&id, &spec).await.unwrap();
    assert!(session.stderr.is_none());
    session.resize.send(TermSize { columns: 93, rows: 17 }).await.unwrap();
    // The size must be there before the program asks.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    session.stdin = Some(stdin);
    let (code, output, _) = collect(session).await;
    assert_eq!(code, 3);
    assert!(output.contains("/dev/pts/"), "{output}");
    assert!(output.contains("got hello\r\n") && output.contains("17 93"), "{output}");
    world.engine.stop(&id, Duration::ZERO).await.unwrap();
}

async fn dropped_exec_is_killed(world: &World) {
    let id = world.start(&world.sh("sleep 1000")).await;
    let mut session = world.engine.exec(&id, &exec_sh("echo $$; exec sleep 987654")).await.unwrap();
    let mut first = [0; 16];
    let length = session.stdout.read(&mut first).await.unwrap();
    assert!(length > 1);
    drop(session);
    let gone = async {
        while world.exec(&id, exec_sh("grep -l 98765[4] /proc/[0-9]*/cmdline")).await.0 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::world::PATIENCE, gone).await.expect("it still runs");
    world.engine.stop(&id, Duration::ZERO).await.unwrap();
}

async fn exec_in_an_ended_container(world: &World) {
    let spec = world.sh("exit 0");
    let id = world.start(&spec).await;
    world.wait(&id).await;
    assert!(matches!(world.engine.exec(&id, &exec_sh("true")).await, Err(EngineError::Invalid(_))));
}

async fn attach_input_and_output(world: &World) {
    let mut spec = world.sh("while read line; do echo out $line; echo err $line >&2; done; echo over");
    spec.stdin = true;
    let id = world.start(&spec).await;
    let mut session = world.engine.attach(&id, true).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"a\nb\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    let (code, output, errors) = collect(session).await;
    assert_eq!((code, output.as_str(), errors.as_str()), (0, "out a\nout b\nover\n", "err a\nerr b\n"));
    assert!(text(&spec.log.path).contains("out b\n"), "the log has it too");
}

async fn detached_input_stays_open(world: &World) {
    let mut spec = world.sh("while read line; do echo $line; done; echo over");
    spec.stdin = true;
    let id = world.start(&spec).await;
    for line in ["first\n", "second\n"] {
        let mut session = world.engine.attach(&id, true).await.unwrap();
        session.stdin.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
        let mut back = vec![0; line.len()];
        session.stdout.read_exact(&mut back).await.unwrap();
        assert_eq!(back, line.as_bytes());
    }
    assert!(world.engine.inspect(&id).await.unwrap().exit.is_none());
    let mut session = world.engine.attach(&id, true).await.unwrap();
    session.stdin.take().unwrap().shutdown().await.unwrap();
    assert_eq!(collect(session).await.0, 0);
    assert_eq!(text(&spec.log.path), "first\nsecond\nover\n");
}

async fn attach_to_a_terminal(world: &World) {
    let mut spec = world.sh("read line; stty size; echo got $line; test -t 1");
    (spec.tty, spec.stdin) = (true, true);
    let id = world.start(&spec).await;
    let mut session = world.engine.attach(&id, true).await.unwrap();
    assert!(session.stderr.is_none());
    session.resize.send(TermSize { columns: 71, rows: 13 }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"yes\n").await.unwrap();
    let (code, output, _) = collect(session).await;
    assert_eq!(code, 0);
    assert!(output.contains("13 71\r\ngot yes\r\n"), "{output:?}");
    assert!(entries(&spec.log.path).iter().all(|(stream, ..)| stream == "stdout"));
}

async fn own_image_runs_own_binary(world: &World) {
    // The shim program stands in for kubetask; started plainly it says what it is and exits with 2.
    let check = async |command: &[&str]| {
        let mut spec = world.command(command);
        spec.image = "docker.io/kubetask/kubetask:v1".to_owned();
        assert_eq!(world.run(&spec).await.code, 2);
        assert!(text(&spec.log.path).contains("started by KubeTask's local engine"));
    };
    check(&["kubetask", "version"]).await;
    check(&["sh", "-c", "kubetask"]).await;
    check(&[]).await;
}

async fn wrong_specifications(world: &World) {
    let check = async |change: &dyn Fn(&mut kubetask_engine::spec::ContainerSpec), part: &str| {
        let mut spec = world.sh("true");
        change(&mut spec);
        match world.engine.start(&spec).await {
            Err(EngineError::Invalid(message)) => assert!(message.contains(part), "{message}"),
            other => panic!("{part}: {other:?}"),
        }
    };
    check(&|spec| spec.command.clear(), "give a command").await;
    check(&|spec| spec.id.0 = "../x".to_owned(), "identity").await;
    check(&|spec| spec.mounts = vec![mount("/etc".into(), "relative", true)], "must be absolute").await;
    check(&|spec| spec.mounts = vec![mount("/etc".into(), "/a/../b", true)], "without \"..\"").await;
    check(&|spec| spec.mounts = vec![mount("/etc".into(), "/", true)], "replace the sandbox").await;
    check(&|spec| spec.env = vec![("A=B".to_owned(), String::new())], "environment variable").await;
    check(&|spec| spec.env = vec![("A".to_owned(), "\0".to_owned())], "environment variable").await;
    check(&|spec| spec.args = vec!["\0".to_owned()], "NUL").await;
    check(&|spec| spec.hostname = Some("x".repeat(65)), "host name").await;
    check(&|spec| spec.security.add_capabilities = vec!["FLY".to_owned()], "unknown capability").await;
    check(&|spec| spec.log.max_files = 0, "log").await;
}
