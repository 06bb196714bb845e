//! The kubelet's HTTP interface, asked directly.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::{SinkExt, StreamExt};
use kubetask_engine::fake::{ExecReply, Script};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tower::ServiceExt;

use crate::world::{PATIENCE, World, id};

async fn get(world: &World, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = world.router().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_why_there_are_none() {
    let world = World::new().await;
    world.engine.always(Script::exits(0).stdout("one\ntwo\nend").stderr("oops\n"));
    world.engine.missing_image("none:1");
    world.create("p", json!({"restartPolicy": "Never"})).await;
    world.create("w", json!({"containers": [{"name": "main", "image": "none:1", "imagePullPolicy": "Never"}]})).await;
    world.phase("p", "Succeeded").await;
    world.wait("w", |pod| pod.to_string().contains("ErrImageNeverPull")).await;
    let check = async |path: &str, status: u16, text: &str| {
        let (got, body) = get(&world, &format!("/containerLogs/default/{path}")).await;
        assert_eq!((got.as_u16(), body.as_str()), (status, text), "{path}");
    };
    check("p/main", 200, "one\ntwo\noops\nend").await;
    check("p/main?tailLines=1", 200, "end").await;
    check("p/main?follow=true&stream=Stderr", 200, "oops\n").await;
    check("p/main?previous=true", 400, "previous terminated container \"main\" in pod \"p\" not found").await;
    check("p/main?tailLines=x", 400, "invalid value for tailLines: \"x\"").await;
    check("w/main", 400, "container \"main\" in pod \"w\" is waiting to start: ErrImageNeverPull").await;
    check("p/other", 404, "container \"other\" not found in pod \"p\"\n").await;
    check("none/main", 404, "pod \"none\" not found\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_to_the_end_of_the_run() {
    let world = World::new().await;
    world.engine.always(Script::runs_until_stopped().stdout("first\n"));
    let pod = world.create("p", json!({"restartPolicy": "Never"})).await;
    world.phase("p", "Running").await;
    let request = Request::get("/containerLogs/default/p/main?follow=true").body(Body::empty()).unwrap();
    let response = world.router().oneshot(request).await.unwrap();
    let mut stream = response.into_body().into_data_stream();
    let next = async |stream: &mut axum::body::BodyDataStream| {
        let chunk = tokio::time::timeout(PATIENCE, stream.next()).await.expect("nothing came");
        chunk.map(|chunk| String::from_utf8_lossy(&chunk.unwrap()).into_owned())
    };
    assert_eq!(next(&mut stream).await.as_deref(), Some("first\n"));
    world.engine.print(&id(&pod, "main", 0), "second\n");
    assert_eq!(next(&mut stream).await.as_deref(), Some("second\n"));
    world.engine.print(&id(&pod, "main", 0), "third\n");
    world.engine.finish(&id(&pod, "main", 0), 0);
    assert_eq!(next(&mut stream).await.as_deref(), Some("third\n"));
    assert_eq!(next(&mut stream).await, None);
}

struct Answer {
    stdout: String,
    stderr: String,
    status: Value,
    close: Option<u16>,
}

/// Runs an exec over a real connection.
async fn exec(world: &World, protocol: &str, query: &str, stdin: Option<&str>) -> Answer {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, world.router()).into_future());
    let mut request = format!("ws://{address}/exec/default/p/main?{query}").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    let (mut socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    if let Some(text) = stdin {
        let mut data = vec![0];
        data.extend_from_slice(text.as_bytes());
        socket.send(Message::Binary(data.into())).await.unwrap();
        socket.send(Message::Binary(vec![255, 0].into())).await.unwrap();
    }
    let mut answer = Answer { stdout: String::new(), stderr: String::new(), status: Value::Null, close: None };
    while let Some(message) = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("no end") {
        match message.unwrap() {
            Message::Binary(data) => {
                let text = String::from_utf8_lossy(&data[1..]).into_owned();
                match data[0] {
                    1 => answer.stdout.push_str(&text),
                    2 => answer.stderr.push_str(&text),
                    3 => answer.status = serde_json::from_str(&text).unwrap(),
                    255 => {}
                    other => panic!("channel {other}"),
                }
            }
            Message::Close(frame) => answer.close = frame.map(|frame| frame.code.into()),
            other => panic!("{other:?}"),
        }
    }
    server.abort();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_over_a_websocket() {
    let world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    world.engine.on_exec(|_, spec| match spec.command[0].as_str() {
        "cat" => ExecReply::default(),
        "fail" => ExecReply { code: 7, stdout: Some("out\n".into()), stderr: "err\n".into(), ..Default::default() },
        _ => ExecReply { stdout: Some("hello\n".into()), ..Default::default() },
    });
    world.create("p", json!({})).await;
    world.phase("p", "Running").await;
    for protocol in ["v4.channel.k8s.io", "v5.channel.k8s.io"] {
        let answer = exec(&world, protocol, "command=echo&command=hello&stdout=true&stderr=true", None).await;
        assert_eq!((answer.stdout.as_str(), answer.status["status"].as_str()), ("hello\n", Some("Success")));
        assert_eq!(answer.close, Some(1000), "clients take anything else for a failure");
    }
    let answer = exec(&world, "v5.channel.k8s.io", "command=fail&stdout=true&stderr=true", None).await;
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(answer.status["reason"], "NonZeroExitCode");
    assert_eq!(answer.status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
    let answer = exec(&world, "v5.channel.k8s.io", "command=cat&stdin=true&stdout=true", Some("typed")).await;
    assert_eq!(answer.stdout, "typed");
    let (status, text) = get(&world, "/exec/default/p/main?command=x&stdout=true").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    let (status, _) = get(&world, "/exec/default/p/none?command=x").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded() {
    let world = World::new().await;
    world.engine.always(Script::runs_until_stopped());
    world.create("p", json!({})).await;
    world.phase("p", "Running").await;
    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = echo.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = echo.accept().await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, world.router()).into_future());
    let mut request = format!("ws://{address}/portForward/default/p?port={port}").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "v4.channel.k8s.io".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(Message::Binary(b"\0ping".to_vec().into())).await.unwrap();
    let mut echoed = Vec::new();
    let mut announced = 0;
    while echoed != b"ping" {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        let data = message.into_data();
        if announced < 2 {
            assert_eq!((usize::from(data[0]), &data[1..]), (announced, &port.to_le_bytes()[..]));
            announced += 1;
        } else {
            assert_eq!(data[0], 0);
            echoed.extend_from_slice(&data[1..]);
        }
    }
}
