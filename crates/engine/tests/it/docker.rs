//! What only the Docker engine promises.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kubetask_engine::spec::PullPolicy;
use kubetask_engine::traits::{BuildSpec, RegistryCredentials};
use kubetask_engine::{ContainerEngine, DockerEngine, EngineError};
use tokio::sync::{OnceCell, mpsc};

use crate::world::{World, docker_engine, exec_sh, skipped, text};

const IMAGE: &str = "kubetask-test/busybox:1";

/// What the builder of a daemon's image said.
pub(crate) type Built = OnceCell<Option<Vec<String>>>;

/// An image with busybox, built once a process from nothing but this machine's static busybox.
pub(crate) async fn busybox(engine: &DockerEngine, built: &'static Built) -> Option<String> {
    let built = built.get_or_init(|| async {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let Some(busybox) = busybox else {
            return skipped("busybox (static) is missing");
        };
        let context = tempfile::tempdir().unwrap();
        let root = context.path().join("root");
        for directory in ["bin", "tmp", "var/tmp", "etc", "home", "usr/bin"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for open in ["tmp", "var/tmp"] {
            std::fs::set_permissions(root.join(open), std::fs::Permissions::from_mode(0o1777)).unwrap();
        }
        std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        let programs = std::process::Command::new(busybox).arg("--list").output().unwrap().stdout;
        for program in String::from_utf8(programs).unwrap().lines().filter(|program| *program != "busybox") {
            symlink("busybox", root.join("bin").join(program)).unwrap();
        }
        symlink("../../bin/busybox", root.join("usr/bin/env")).unwrap();
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
        let file = "FROM scratch\nARG GREETING=none\nADD root /\nENV PATH=/bin GREETING=$GREETING\nENTRYPOINT [\"sh\", \"-c\"]\n\
                    CMD [\"echo $GREETING\"]\n";
        std::fs::write(context.path().join("Dockerfile"), file).unwrap();
        let spec = BuildSpec {
            image: IMAGE.to_owned(),
            context: context.path().to_owned(),
            dockerfile: None,
            args: vec![("GREETING".to_owned(), "hello from the image".to_owned())],
        };
        let (output, mut lines) = mpsc::channel(1000);
        engine.build_image(&spec, output).await.unwrap();
        let mut all = Vec::new();
        while let Some(line) = lines.recv().await {
            all.push(line);
        }
        Some(all)
    });
    let lines = built.await.as_ref()?;
    assert!(lines.iter().any(|line| line.contains("FROM scratch")), "{lines:?}");
    Some(IMAGE.to_owned())
}

/// Ends and removes everything of an engine.
pub(crate) fn remove_all(engine: &Arc<dyn ContainerEngine>) {
    let engine = Arc::clone(engine);
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for state in engine.list(None).await.unwrap_or_default() {
                let _ = engine.stop(&state.id, Duration::ZERO).await;
                let _ = engine.remove(&state.id).await;
            }
        });
    };
    let _ = std::thread::spawn(work).join();
}

#[tokio::test]
async fn without_a_daemon_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let engine = DockerEngine::with_sockets(dir.path().join("root"), vec![dir.path().join("no.sock")]);
    let Err(EngineError::Unavailable { reason, .. }) = engine.probe().await else { panic!("it works") };
    assert!(reason.contains("no.sock") && reason.contains("start the daemon"), "{reason}");
    // Never used: nobody is asked, and nothing is written.
    assert!(engine.list(None).await.unwrap().is_empty());
    assert!(!dir.path().join("root").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images() {
    let Some(world) = World::docker().await else { return };
    let engine = &world.engine;
    engine.ensure_image(IMAGE, PullPolicy::Never).await.unwrap();
    engine.ensure_image(&format!("docker.io/{IMAGE}"), PullPolicy::IfNotPresent).await.unwrap();
    let is_missing = |result: Result<(), EngineError>| matches!(result, Err(EngineError::Image { .. }));
    assert!(is_missing(engine.ensure_image("kubetask-test/none:1", PullPolicy::Never).await));
    // Nobody listens there.
    assert!(is_missing(engine.ensure_image("localhost:1/none:1", PullPolicy::IfNotPresent).await));
    let bad = tempfile::tempdir().unwrap();
    std::fs::write(bad.path().join("Dockerfile"), "FROM scratch\nCOPY missing /\n").unwrap();
    let spec =
        BuildSpec { image: "x:1".to_owned(), context: bad.path().to_owned(), dockerfile: None, args: Vec::new() };
    let (output, _lines) = mpsc::channel(1000);
    let Err(EngineError::Image { reason, .. }) = engine.build_image(&spec, output).await else { panic!("it builds") };
    assert!(reason.contains("missing"), "{reason}");
}

/// A daemon that only fetches images, for those who have the right password; it tells what it was asked.
fn fetching_daemon(socket: &std::path::Path) -> std::sync::mpsc::Receiver<String> {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let (asked, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let mut password = String::new();
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header).unwrap() == 0 || header.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) =
                    header.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("x-registry-auth"))
                {
                    let _ = name;
                    let bytes =
                        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE, value.trim()).unwrap();
                    let auth: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                    password = auth["password"].as_str().unwrap_or_default().to_owned();
                }
            }
            let (status, body) = match (line.starts_with("POST") && line.contains("/images/create"), &*password) {
                (true, "right") => (
                    "200 OK",
                    "{\"id\":\"a\",\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":10}}\n{\"status\":\"done\"}\n",
                ),
                (true, _) => ("500 Internal Server Error", "{\"message\":\"unauthorized: authentication required\"}"),
                _ => ("404 Not Found", "{\"message\":\"no such image\"}"),
            };
            let _ = asked.send(format!("{} {password}", line.trim()));
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // Who asked may be gone.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_registries_are_tried_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let asked = fetching_daemon(&socket);
    let engine = DockerEngine::with_sockets(dir.path().join("root"), vec![socket]);
    let with = |password: &str| RegistryCredentials {
        server: "registry.example".to_owned(),
        username: "me".to_owned(),
        password: password.to_owned(),
        identity_token: None,
    };
    let (image, policy) = ("registry.example/app:1", PullPolicy::IfNotPresent);
    let (progress, mut told) = mpsc::channel(10);
    engine.pull_image_as(image, policy, &[with("wrong"), with("right")], progress).await.unwrap();
    assert_eq!(told.recv().await.unwrap().done_bytes, Some(5));
    let asked: Vec<String> = asked.try_iter().filter(|line| line.starts_with("POST")).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].ends_with(" wrong") && asked[1].ends_with(" right"), "{asked:?}");
    for credentials in [&[][..], &[with("wrong")]] {
        let refused = engine.pull_image_as(image, policy, credentials, mpsc::channel(1).0).await;
        let Err(EngineError::Image { reason, .. }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("unauthorized"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_images_own_command() {
    let Some(world) = World::docker().await else { return };
    let mut spec = world.command(&[]);
    assert_eq!(world.run(&spec).await.code, 0);
    assert!(text(&spec.log.path).contains("hello from the image"));
    spec = world.command(&[]);
    spec.args = vec!["echo other; exit 3".to_owned()];
    assert_eq!(world.run(&spec).await.code, 3);
    assert!(text(&spec.log.path).contains("other"));
}

/// The caller was killed: another finds the container by its identity, and the log has every line once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_engine_goes_on() {
    let Some(world) = World::docker().await else { return };
    let script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; sleep 0.03; done; exit 4";
    let spec = world.sh(script);
    // In a runtime of its own, which is dropped in the middle of it all.
    let (copy, path) = (spec.clone(), world.path(""));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let engine = docker_engine(&path).await.unwrap();
            engine.start(&copy).await.unwrap();
            while !text(&copy.log.path).contains("line 10") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        runtime.shutdown_background();
    })
    .join()
    .unwrap();
    let engine = docker_engine(&world.path("")).await.unwrap();
    let state = engine.inspect(&spec.id).await.unwrap();
    assert_eq!((state.id, state.exit.is_none()), (spec.id.clone(), true));
    assert_eq!(engine.start(&spec).await.unwrap().started_at_nanos, state.started_at_nanos, "it is not started again");
    assert_eq!(engine.wait(&spec.id).await.unwrap().code, 4);
    let log = text(&spec.log.path);
    let lines: Vec<&str> = log.lines().collect();
    let expect: Vec<String> = (1..=60).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expect);
}

/// Two programs with one daemon do not see each other's containers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_is_shared() {
    let (Some(one), Some(two)) = (World::docker().await, World::docker().await) else { return };
    let spec = one.sh("sleep 1000");
    let id = one.start(&spec).await;
    // The same name, and another container.
    assert_eq!(two.run(&two.sh("exit 2")).await.code, 2);
    for (world, ended) in [(&one, false), (&two, true)] {
        let listed = world.engine.list(None).await.unwrap();
        assert_eq!(
            listed.iter().map(|state| (state.id.clone(), state.exit.is_some())).collect::<Vec<_>>(),
            [(id.clone(), ended)]
        );
    }
    let as_user = kubetask_engine::traits::ExecSpec { user: Some(1000), ..exec_sh("id -u") };
    assert_eq!(one.exec(&id, as_user).await.1, "1000\n");
    one.engine.stop(&id, Duration::ZERO).await.unwrap();
}

/// A way to the daemon that can be cut, as when the daemon is restarted with live restore.
struct Way {
    socket: std::path::PathBuf,
    daemon: std::path::PathBuf,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Way {
    fn open(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        let (listener, daemon) = (tokio::net::UnixListener::bind(&self.socket).unwrap(), self.daemon.clone());
        self.serving = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let daemon = daemon.clone();
                connections.spawn(async move {
                    let mut far = tokio::net::UnixStream::connect(daemon).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        }));
    }

    /// Nobody listens, and every connection ends.
    async fn cut(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_goes_and_comes_back() {
    let Some(world) = World::docker().await else { return };
    let used = std::fs::read_to_string(world.path("docker/socket")).ok();
    let daemon = match used {
        Some(daemon) => daemon,
        None => {
            world.run(&world.sh("true")).await;
            std::fs::read_to_string(world.path("docker/socket")).unwrap()
        }
    };
    let mut way = Way { socket: world.path("way.sock"), daemon: daemon.into(), serving: None };
    way.open();
    let engine = Arc::new(DockerEngine::with_sockets(world.path("other"), vec![way.socket.clone()]));
    let go = world.directory("go");
    let mut spec = world.sh("echo before; while ! test -e /go/on; do sleep 0.05; done; echo after; exit 6");
    spec.mounts.push(crate::world::mount(go.clone(), "/go", false));
    engine.start(&spec).await.unwrap();
    world.printed(&spec, "before").await;
    let waiting = tokio::spawn({
        let (engine, id) = (Arc::clone(&engine), spec.id.clone());
        async move { engine.wait(&id).await }
    });
    way.cut().await;
    let is_away =
        |error: Option<EngineError>| assert!(matches!(error, Some(EngineError::Unavailable { .. })), "{error:?}");
    is_away(waiting.await.unwrap().err());
    is_away(engine.inspect(&spec.id).await.err());
    is_away(engine.list(None).await.err());
    // The container goes on meanwhile, and what it said is not lost.
    std::fs::write(go.join("on"), "").unwrap();
    way.open();
    assert_eq!(engine.wait(&spec.id).await.unwrap().code, 6);
    assert_eq!(text(&spec.log.path), "before\nafter\n");
    engine.remove(&spec.id).await.unwrap();
}
