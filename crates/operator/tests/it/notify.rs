//! Webhooks are told what happened, over restarts, and hold up nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use kubetask_api::{Task, TaskPhase, reasons};
use kubetask_operator::notify::payload;
use kubetask_testkit::{ExecReply, Script, TestCluster};
use serde_json::Value;

use crate::stub::{Asked, Stub, eventually};
use crate::{agent, events, status, task};

fn config(notifications: &str) -> String {
    format!(
        "{{apiVersion: kubetask.io/v1alpha1, kind: KubeTaskConfig, metadata: {{name: default}}, \
         spec: {{notifications: {notifications}}}}}"
    )
}

async fn all_told(cluster: &TestCluster, name: &str) -> anyhow::Result<Task> {
    let told = |task: &Task| task.phase().is_finished() && status(task).pending_notifications.is_empty();
    cluster.wait_for_task(name, "told", |task| task.status.is_some() && told(task)).await
}

fn told(asked: &Asked) -> (String, String) {
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    (body["task"]["name"].as_str().unwrap().to_owned(), body["event"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn webhook_is_told_signed_and_again_until_it_answers() -> anyhow::Result<()> {
    let stub = Stub::start(|n, _| if n < 2 { StatusCode::BAD_GATEWAY } else { StatusCode::NO_CONTENT }).await?;
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::exits(3));
    let secret = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: hook}}, stringData: {{url: 'http://{}/hook', signingKey: s3cret}}}}",
        stub.address
    );
    cluster.apply(&secret).await?;
    cluster.apply(&config("{secretRef: {name: hook}, events: [Started, Failed]}")).await?;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    all_told(&cluster, "t").await?;
    let asked = stub.asked();
    let delivered: Vec<&Asked> = asked.iter().skip(2).collect();
    assert!(delivered.iter().any(|call| told(call).1 == "Failed"), "{delivered:?}");
    for call in &asked {
        assert_eq!((call.method.as_str(), call.uri.path()), ("POST", "/hook"));
        let time: i64 = call.header(payload::TIMESTAMP).parse()?;
        assert_eq!(call.header(payload::SIGNATURE), payload::signature(b"s3cret", time, &call.body));
        let body: Value = serde_json::from_slice(&call.body)?;
        assert_eq!(body["delivery"].as_str().unwrap(), call.header(payload::DELIVERY));
        assert_eq!(call.header(payload::EVENT), told(call).1);
    }
    // It may be told twice, when somebody else wrote the status meanwhile; the delivery is the same then.
    let distinct: BTreeSet<&str> = delivered.iter().map(|call| call.header(payload::DELIVERY)).collect();
    assert!(distinct.len() <= 2, "{distinct:?}");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_dead_endpoint_blocks_nobody_and_nothing_is_forgotten_over_a_restart() -> anyhow::Result<()> {
    const TASKS: usize = 20;
    // A port at which nobody listens.
    let address = Stub::start(|_, _| StatusCode::OK).await?.address;
    let mut cluster = TestCluster::start().await?;
    cluster.apply(&config(&format!("{{webhookURL: 'http://{address}/hook'}}"))).await?;
    cluster.apply(&(0..TASKS).map(|n| task(&format!("t{n}"), "{prompt: hi}")).collect::<String>()).await?;
    for n in 0..TASKS {
        let done = cluster.wait_for_phase(&format!("t{n}"), TaskPhase::Completed).await?;
        assert_eq!(status(&done).pending_notifications.len(), 1);
    }
    cluster.kill_operator();
    let stub = Stub::at(address, |_, _| StatusCode::OK).await?;
    cluster.start_operator();
    for n in 0..TASKS {
        all_told(&cluster, &format!("t{n}")).await?;
    }
    eventually("all were told", || stub.asked().len() >= TASKS).await?;
    let names: BTreeSet<String> = stub.asked().iter().map(|call| told(call).0).collect();
    assert_eq!(names.len(), TASKS);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn only_what_is_wanted_is_told() -> anyhow::Result<()> {
    let stub = Stub::start(|_, _| StatusCode::OK).await?;
    let cluster = TestCluster::start().await?;
    // What ended before anybody wanted to be told is not told.
    cluster.apply(&task("before", "{prompt: hi}")).await?;
    cluster.wait_for_phase("before", TaskPhase::Completed).await?;
    cluster.apply(&config(&format!("{{webhookURL: 'http://{}/'}}", stub.address))).await?;
    // The operator learns of it in its own time.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    cluster.apply(&task("t", "{prompt: hi}")).await?;
    all_told(&cluster, "t").await?;
    eventually("it was told", || !stub.asked().is_empty()).await?;
    let all: BTreeSet<(String, String)> = stub.asked().iter().map(told).collect();
    assert_eq!(all, BTreeSet::from([("t".to_owned(), "Completed".to_owned())]));
    assert_eq!(stub.asked()[0].header(payload::SIGNATURE), "");
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_task_is_exported_as_a_trace_of_which_its_agent_is_part() -> anyhow::Result<()> {
    use kubetask_operator::OperatorConfig;
    use kubetask_operator::traces::TraceConfig;
    use kubetask_testkit::TestConfig;

    let stub = Stub::start(|n, _| if n == 0 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }).await?;
    let url = format!("http://{}/v1/traces", stub.address);
    let traces =
        TraceConfig { url, headers: vec![("authorization".to_owned(), "x".to_owned())], service: "s".to_owned() };
    let operator = OperatorConfig { traces: Some(traces), ..OperatorConfig::default() };
    let cluster = TestCluster::with(TestConfig { operator, ..TestConfig::default() }).await?;
    cluster.engine().always(Script::exits(3));
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    cluster
        .apply(
            &task("t", "{prompt: hi}")
                .replace("name: t}", &format!("name: t, annotations: {{kubetask.io/traceparent: {given}}}}}")),
        )
        .await?;
    cluster.wait_for_phase("t", TaskPhase::Failed).await?;
    eventually("the trace arrives", || stub.asked().len() >= 2).await?;
    let call = stub.asked().pop().unwrap();
    assert_eq!((call.uri.path(), call.header("authorization")), ("/v1/traces", "x"));
    let body: Value = serde_json::from_slice(&call.body)?;
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let names: Vec<&str> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["task", "queue", "job", "pod", "agent"]);
    assert!(spans.iter().all(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c"));
    assert_eq!((&spans[0]["parentSpanId"], &spans[0]["status"]["code"]), (&"b7ad6b7169203331".into(), &2.into()));
    for (child, parent) in [(1, 0), (2, 0), (3, 2), (4, 3)] {
        assert_eq!(spans[child]["parentSpanId"], spans[parent]["spanId"], "{names:?}");
    }
    let agent = &cluster.agents("t")[0];
    let told = agent.env.iter().find(|(name, _)| name == "TRACEPARENT").map(|(_, value)| value.clone()).unwrap();
    assert_eq!(told, format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", spans[0]["spanId"].as_str().unwrap()));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn waiting_for_a_human_is_in_the_status_and_told() -> anyhow::Result<()> {
    let stub = Stub::start(|_, _| StatusCode::OK).await?;
    let cluster = TestCluster::start().await?;
    cluster.engine().always(Script::runs_until_stopped());
    // The probe comes back when the agent's command has ended.
    let ended = Arc::new(AtomicBool::new(false));
    let probed = ended.clone();
    cluster.engine().on_exec(move |_, spec| {
        assert!(spec.command.concat().contains("/kubetask/human/waits"), "{spec:?}");
        ExecReply { code: i32::from(!probed.load(Ordering::Relaxed)), ..ExecReply::default() }
    });
    cluster.apply(&config(&format!("{{webhookURL: 'http://{}/', events: [WaitingForHuman]}}", stub.address))).await?;
    let spec = "{agentImage: acme, command: [agent], humanInTheLoop: {enabled: true, keepAliveSeconds: 600}}";
    cluster.apply(&(agent("a", spec) + &task("t", "{prompt: hi, agentRef: a}"))).await?;
    let running = cluster.wait_for_phase("t", TaskPhase::Running).await?;
    assert_eq!(status(&running).reason.as_deref(), Some(reasons::RUNNING));
    ended.store(true, Ordering::Relaxed);
    let waits = cluster.wait_for_reason("t", reasons::WAITING_FOR_HUMAN).await?;
    assert_eq!(waits.phase(), TaskPhase::Running);
    let message = status(&waits).message.clone().unwrap();
    assert!(message.contains("600 seconds") && message.contains("kubetask exec -n default -it t -- sh"), "{message}");
    eventually("it was told", || !stub.asked().is_empty()).await?;
    assert_eq!(told(&stub.asked()[0]), ("t".to_owned(), "WaitingForHuman".to_owned()));
    assert_eq!(events(&cluster, "t", reasons::WAITING_FOR_HUMAN).await?.len(), 3, "created, runs, waits");
    let container = cluster.wait_for_agent("t", 1).await?;
    cluster.engine().finish(&container.id, 0);
    cluster.wait_for_phase("t", TaskPhase::Completed).await?;
    cluster.shutdown().await;
    Ok(())
}
