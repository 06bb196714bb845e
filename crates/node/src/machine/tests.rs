//! Scenarios as text: an event a line, what the machine asks for after `=>`. Events that are recorded for people
//! (`Command::Emit`) are compared only on lines with `! `.

mod endings;
mod properties;

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::slot::back_off;
use super::*;

const START: i64 = 1_700_000_000;

fn pod(spec: &Value) -> Pod {
    let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})).unwrap()
}

fn time(offset: f64) -> Timestamp {
    Timestamp::from_millisecond(START * 1000 + (offset * 1000.0) as i64).unwrap()
}

struct Scene {
    machine: Machine,
    now: f64,
}

impl Scene {
    fn new(spec: &Value) -> Self {
        let host = Host { address: "127.0.0.1".into(), engine: "fake".into() };
        Self { machine: Machine::new(Arc::new(pod(spec)), host, time(0.0)), now: 0.0 }
    }

    fn slot(&self, text: &str) -> (usize, u32) {
        let (name, attempt) = text.split_once('#').unwrap_or((text, "0"));
        let index = self.machine.slots.iter().position(|slot| slot.spec.name == name).unwrap();
        (index, attempt.parse().unwrap())
    }

    fn event(&self, line: &str) -> Event {
        let words: Vec<&str> = line.split_whitespace().collect();
        let rest = |from: usize| words[from.min(words.len())..].join(" ");
        let on = |at: usize| self.slot(words[at]);
        let result = |from: usize| match rest(from).as_str() {
            "ok" => Ok(()),
            text => Err(text.to_owned()),
        };
        match words[0] {
            "tick" => Event::Tick,
            "bound" => Event::Bound,
            "poke" => Event::Poke,
            "gone" => Event::Gone,
            "shutdown" => Event::Shutdown(Duration::from_secs(words[1].parse().unwrap())),
            "evict" => Event::Evict(rest(1)),
            "prepared" => Event::Prepared(if rest(1).is_empty() { Ok(()) } else { Err(vec![rest(1)]) }),
            "started" | "adopted" => {
                let (slot, attempt) = on(1);
                Event::Started { slot, attempt, at: time(self.now), adopted: words[0] == "adopted" }
            }
            "ended" => {
                let (slot, attempt) = on(1);
                let code: i32 = words[2].parse().unwrap();
                let ran: f64 = words.get(3).map_or(1.0, |ran| ran.parse().unwrap());
                let reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
                let (started_at, finished_at) = (time(self.now - ran), time(self.now));
                Event::Ended {
                    slot,
                    attempt,
                    end: End { code, signal: None, reason, message: None, started_at, finished_at },
                }
            }
            "refused" => {
                let (slot, attempt) = on(1);
                let text = rest(3);
                let why = match words[2] {
                    "never" => NotStarted::Never,
                    "config" => NotStarted::Config(text),
                    "image" => NotStarted::InvalidImage(text),
                    "missing" => NotStarted::NeverPull(text),
                    "pull" => NotStarted::Pull(text),
                    "create" => NotStarted::Create(text),
                    "start" => NotStarted::Start(text),
                    other => panic!("{other}"),
                };
                Event::NotStarted { slot, attempt, why }
            }
            "hook" => {
                let (slot, attempt) = on(2);
                let hook = if words[1] == "post" { Hook::PostStart } else { Hook::PreStop };
                Event::HookDone { slot, attempt, hook, result: result(3) }
            }
            "probe" => {
                let (slot, attempt) = on(2);
                let kind = match words[1] {
                    "startup" => ProbeKind::Startup,
                    "liveness" => ProbeKind::Liveness,
                    _ => ProbeKind::Readiness,
                };
                Event::Probed { slot, attempt, kind, result: result(3) }
            }
            "delete" => {
                let mut pod = Pod::clone(&self.machine.pod);
                pod.metadata.deletion_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time(self.now)));
                pod.metadata.deletion_grace_period_seconds = words.get(1).map(|grace| grace.parse().unwrap());
                Event::Pod(Arc::new(pod))
            }
            "debug" => {
                let mut pod = Pod::clone(&self.machine.pod);
                let list = pod.spec.as_mut().unwrap().ephemeral_containers.get_or_insert_default();
                if !list.iter().any(|known| known.name == words[1]) {
                    list.push(EphemeralContainer { name: words[1].to_owned(), ..EphemeralContainer::default() });
                }
                Event::Pod(Arc::new(pod))
            }
            other => panic!("{other}"),
        }
    }

    fn show(&self, commands: &[Command], events: bool) -> String {
        let name = |slot: &usize| self.machine.slots[*slot].spec.name.clone();
        let mut out = String::new();
        for command in commands {
            let text = match command {
                Command::Prepare => "prepare".to_owned(),
                Command::Start { slot, attempt } => format!("start {}#{attempt}", name(slot)),
                Command::Adopt { slot, attempt, ran } => format!("adopt {}#{attempt} {ran}", name(slot)),
                Command::CancelStart { slot, attempt } => format!("cancel {}#{attempt}", name(slot)),
                Command::Hook { slot, attempt, hook, .. } => format!("{hook:?} {}#{attempt}", name(slot)),
                Command::Kill { slot, attempt, grace } => format!("kill {}#{attempt} {grace:?}", name(slot)),
                Command::Probe { slot, attempt, kind } => format!("{kind:?} {}#{attempt}", name(slot)),
                Command::Finalize => "finalize".to_owned(),
                Command::CleanUp => "clean up".to_owned(),
                Command::Emit { reason, message, .. } if events => format!("{reason}: {message}"),
                Command::Emit { .. } => continue,
            };
            let separator = if out.is_empty() { "" } else { ", " };
            write!(out, "{separator}{text}").unwrap();
        }
        out
    }
}

/// Plays `script`. Lines: `EVENT => COMMANDS`, `! EVENT => COMMANDS AND EVENTS`, `at SECONDS`, `JSON.PATH == VALUE` of the
/// status, `wake == SECONDS`.
#[track_caller]
fn check(spec: &Value, script: &str) -> Scene {
    let mut scene = Scene::new(spec);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(seconds) = line.strip_prefix("at ") {
            scene.now = seconds.parse().unwrap();
        } else if let Some((path, expect)) = line.split_once(" == ") {
            let got = if path == "wake" {
                scene
                    .machine
                    .wake_at()
                    .map(|at| json!((at.as_millisecond() - START * 1000) as f64 / 1000.0))
                    .unwrap_or_default()
            } else {
                lookup(&serde_json::to_value(scene.machine.status()).unwrap(), path)
            };
            let expect: Value = serde_json::from_str(expect).unwrap_or_else(|_| json!(expect));
            assert_eq!(got, expect, "{line}");
        } else {
            let (left, expect) = line.split_once("=>").unwrap();
            let (events, left) = left.strip_prefix("! ").map_or((false, left), |left| (true, left));
            let event = scene.event(left.trim());
            let commands = scene.machine.handle(time(scene.now), event);
            assert_eq!(scene.show(&commands, events), expect.trim(), "{line}");
        }
    }
    scene
}

/// `a.b.0.c`; an element of a list by its `name` or `type` too.
fn lookup(value: &Value, path: &str) -> Value {
    path.split('.').fold(value.clone(), |value, step| match &value {
        Value::Array(items) => {
            let named = items.iter().find(|item| item["name"] == step || item["type"] == step);
            named.or_else(|| items.get(step.parse::<usize>().unwrap_or(usize::MAX))).cloned().unwrap_or_default()
        }
        value => value[step].clone(),
    })
}

fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 5, "containers": [{"name": "main", "image": "i"}]})
}

fn one_with(policy: &str, extra: Value) -> Value {
    let mut spec = one(policy);
    for (key, value) in extra.as_object().unwrap() {
        spec["containers"][0][key] = value.clone();
    }
    spec
}

const UP: &str = "
    tick => prepare
    bound =>
    prepared => start main#0
    started main#0 =>
";

fn up(rest: &str) -> String {
    format!("{UP}\n{rest}")
}

#[test]
fn a_pod_that_succeeds() {
    check(
        &one("Never"),
        "tick => prepare
         bound =>
         phase == Pending
         containerStatuses.main.state.waiting.reason == ContainerCreating
         conditions.PodReadyToStartContainers.status == False
         prepared => start main#0
         conditions.PodReadyToStartContainers.status == True
         at 1
         ! started main#0 => Created: Container created, Started: Container started
         phase == Running
         containerStatuses.main.ready == true
         conditions.Ready.status == True
         conditions.Ready.observedGeneration == 1
         at 3
         ended main#0 0 =>
         phase == Succeeded
         containerStatuses.main.state.terminated.reason == Completed
         containerStatuses.main.containerID == fake://4770436bcdc8dddb3facdecd505469108fb857607d253cf99f5fc069e8ed4b75
         containerStatuses.main.ready == false
         containerStatuses.main.started == false
         conditions.Ready.reason == PodCompleted
         conditions.ContainersReady.reason == PodCompleted
         conditions.Initialized.reason == PodCompleted
         conditions.PodReadyToStartContainers.status == False
         conditions.PodScheduled.status == True
         conditions.PodScheduled.lastTransitionTime == 2023-11-14T22:13:20Z
         wake == null
         ended main#0 0 =>
         gone => clean up
         gone =>",
    );
}

#[test]
fn nothing_starts_before_the_pod_is_bound() {
    check(
        &one("Never"),
        "tick => prepare
         prepared =>
         bound => start main#0",
    );
}

#[test]
fn failures_and_restarts_follow_the_policy() {
    check(&one("Never"), &up("ended main#0 3 =>\nphase == Failed\nconditions.Ready.reason == PodFailed"));
    check(&one("OnFailure"), &up("ended main#0 0 =>\nphase == Succeeded"));
    check(
        &one("OnFailure"),
        &up("at 2
             ended main#0 2 => start main#1
             phase == Running
             containerStatuses.main.restartCount == 0
             containerStatuses.main.state.terminated.exitCode == 2
             started main#1 =>
             containerStatuses.main.restartCount == 1
             containerStatuses.main.lastState.terminated.exitCode == 2
             containerStatuses.main.lastState.terminated.containerID == fake://4770436bcdc8dddb3facdecd505469108fb857607d253cf99f5fc069e8ed4b75
             at 4
             ! ended main#1 2 => BackOff: Back-off restarting failed container main in pod p_n(u)
             containerStatuses.main.state.waiting.reason == CrashLoopBackOff
             containerStatuses.main.state.waiting.message == back-off 10s restarting failed container=main pod=p_n(u)
             containerStatuses.main.lastState.terminated.exitCode == 2
             containerStatuses.main.restartCount == 1
             phase == Running
             wake == 14.0
             tick =>
             at 14
             tick => start main#2
             started main#2 =>
             ended main#2 2 =>
             wake == 34.0
             at 34
             tick => start main#3
             started main#3 =>
             at 700
             ended main#3 2 650 => start main#4"),
    );
    check(&one("Always"), &up("ended main#0 0 => start main#1"));
}

#[test]
fn the_back_off_doubles_up_to_five_minutes() {
    let waits: Vec<u64> = (0..8).map(|n| back_off(n).as_secs()).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(back_off(u32::MAX).as_secs(), 300);
}

#[test]
fn what_keeps_a_container_from_starting_is_shown_and_tried_again() {
    let begin = "tick => prepare\nbound =>\nprepared => start main#0\n";
    check(
        &one("Never"),
        &format!(
            "{begin}
             ! refused main#0 config configmap \"late\" not found => Failed: Error: configmap \"late\" not found
             containerStatuses.main.state.waiting.reason == CreateContainerConfigError
             containerStatuses.main.state.waiting.message == configmap \"late\" not found
             phase == Pending
             wake == 10.0
             at 1
             poke => start main#0
             containerStatuses.main.state.waiting.reason == CreateContainerConfigError
             started main#0 =>
             containerStatuses.main.restartCount == 0
             phase == Running"
        ),
    );
    check(
        &one("Never"),
        &format!(
            "{begin}! refused main#0 missing M => ErrImageNeverPull: M, Failed: Error: ErrImageNeverPull
             containerStatuses.main.state.waiting.reason == ErrImageNeverPull
             containerStatuses.main.state.waiting.message == M"
        ),
    );
    check(
        &one("Never"),
        &format!("{begin}! refused main#0 image M => InspectFailed: M, Failed: Error: InvalidImageName"),
    );
    check(
        &one("Never"),
        &format!(
            "{begin}
             ! refused main#0 pull M => Failed: Failed to pull image \"i\": M, Failed: Error: ErrImagePull
             at 10
             tick => start main#0
             refused main#0 pull M =>
             containerStatuses.main.state.waiting.reason == ImagePullBackOff
             containerStatuses.main.state.waiting.message == Back-off pulling image \"i\": ErrImagePull: M
             wake == 30.0"
        ),
    );
    check(
        &one("Never"),
        &format!(
            "{begin}
             ! refused main#0 start no such file => Failed: Error: no such file
             phase == Failed
             containerStatuses.main.state.terminated.exitCode == 128
             containerStatuses.main.state.terminated.reason == StartError
             containerStatuses.main.state.terminated.startedAt == 1970-01-01T00:00:00Z
             containerStatuses.main.state.terminated.message == no such file"
        ),
    );
}

#[test]
fn volumes_that_fail_are_tried_again() {
    check(
        &one("Never"),
        "tick => prepare
         bound =>
         ! prepared M => FailedMount: M
         containerStatuses.main.state.waiting.reason == ContainerCreating
         wake == 0.5
         tick =>
         at 0.5
         tick => prepare
         prepared M =>
         wake == 1.5
         poke => prepare
         prepared => start main#0",
    );
}

#[test]
fn containers_come_to_look_into_a_pod() {
    check(
        &one("Never"),
        &up("debug e1 => start e1#0
             ephemeralContainerStatuses.e1.state.waiting.reason == ContainerCreating
             conditions.Ready.status == True
             ! started e1#0 => Created: Container created, Started: Container started
             phase == Running
             ended e1#0 1 =>
             ephemeralContainerStatuses.e1.state.terminated.exitCode == 1
             conditions.Ready.status == True
             debug e1 =>
             debug e2 => start e2#0
             started e2#0 =>
             ended main#0 0 => kill e2#0 5s
             ended e2#0 137 =>
             phase == Succeeded
             debug e3 =>
             phase == Succeeded"),
    );
    // They do not wait for their turn, and nothing waits for them.
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "main"}]});
    check(
        &spec,
        "tick => prepare
         bound =>
         prepared => start i#0
         debug e => start e#0
         started i#0 =>
         refused e#0 config no such thing =>
         ephemeralContainerStatuses.e.state.waiting.reason == CreateContainerConfigError
         ended i#0 0 => start main#0
         started main#0 =>
         ended main#0 0 =>
         phase == Succeeded",
    );
}

#[test]
fn init_containers_run_in_order() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i1"}, {"name": "i2"}], "containers": [{"name": "b"}, {"name": "a"}]});
    let begin = "tick => prepare\nbound =>\nprepared => start i1#0\nstarted i1#0 =>\n";
    check(
        &spec,
        &format!(
            "{begin}
             containerStatuses.a.state.waiting.reason == PodInitializing
             conditions.Initialized.message == containers with incomplete status: [i1 i2]
             ended i1#0 0 => start i2#0
             conditions.Initialized.message == containers with incomplete status: [i2]
             initContainerStatuses.i1.ready == true
             started i2#0 =>
             phase == Pending
             ended i2#0 0 => start b#0, start a#0
             conditions.Initialized.status == True
             containerStatuses.0.name == a
             started a#0 =>
             phase == Pending
             conditions.Ready.message == containers with unready status: [b]
             started b#0 =>
             phase == Running
             ended a#0 1 =>
             phase == Running
             conditions.Ready.message == containers with unready status: [a]
             ended b#0 0 =>
             phase == Failed"
        ),
    );
    check(
        &spec,
        &format!(
            "{begin}
             ended i1#0 5 =>
             phase == Failed
             initContainerStatuses.i1.state.terminated.exitCode == 5
             initContainerStatuses.i2.state.waiting.reason == PodInitializing
             containerStatuses.a.state.waiting.reason == PodInitializing
             conditions.Initialized.reason == ContainersNotInitialized
             conditions.Initialized.message == containers with incomplete status: [i1 i2]"
        ),
    );
    let mut again = spec;
    again["restartPolicy"] = json!("Always");
    check(
        &again,
        &format!("{begin}ended i1#0 5 => start i1#1\nstarted i1#1 =>\nended i1#1 0 => start i2#0\nphase == Pending"),
    );
}

#[test]
fn sidecars_begin_before_and_end_after() {
    let spec = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
        "initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {}}}, {"name": "i"}], "containers": [{"name": "m"}]});
    check(
        &spec,
        "tick => prepare
         bound =>
         prepared => start s#0
         started s#0 => Startup s#0
         probe startup s#0 ok => start i#0
         started i#0 =>
         ended s#0 1 => start s#1
         started s#1 => Startup s#1
         ended i#0 0 => start m#0
         started m#0 =>
         ended m#0 0 => kill s#1 5s
         phase == Running
         ended s#1 143 =>
         phase == Succeeded",
    );
}

#[test]
fn restored_pods_are_looked_for_and_never_started_on_a_guess() {
    let scene = check(&one("OnFailure"), &up("at 2\nended main#0 2 => start main#1\nstarted main#1 =>"));
    let record = scene.machine.record();
    let restore = |record: Option<Record>, status: Value| {
        let mut pod = pod(&one("OnFailure"));
        pod.status = serde_json::from_value(status).unwrap();
        let (machine, commands) = Machine::restore(Arc::new(pod), scene.machine.host.clone(), record, time(3.0));
        let scene = Scene { machine, now: 3.0 };
        (scene.show(&commands, true), scene)
    };
    use crate::record::Record;
    // Running before: found again.
    let (commands, mut scene_after) = restore(Some(record.clone()), json!({"phase": "Running"}));
    assert_eq!(commands, "adopt main#1 false");
    assert_eq!(scene_after.machine.status(), None, "nothing is published before it is known");
    let event = scene_after.event("adopted main#1");
    let commands = scene_after.machine.handle(time(3.0), event);
    assert_eq!(scene_after.show(&commands, true), "prepare");
    let event = scene_after.event("prepared");
    let commands = scene_after.machine.handle(time(3.0), event);
    assert_eq!(scene_after.show(&commands, true), "");
    let status = serde_json::to_value(scene_after.machine.status()).unwrap();
    assert_eq!(lookup(&status, "containerStatuses.main.restartCount"), json!(1));
    assert_eq!(lookup(&status, "containerStatuses.main.lastState.terminated.exitCode"), json!(2));
    // The intent was written, the start never happened: the same run, the same identity.
    let (_, mut scene_after) = restore(Some(record), json!({"phase": "Running"}));
    for (event, expect) in [("refused main#1 never", "prepare"), ("prepared", "start main#1")] {
        let event = scene_after.event(event);
        let commands = scene_after.machine.handle(time(3.0), event);
        assert_eq!(scene_after.show(&commands, true), expect);
    }
    // No record, but the API server knows that it ran.
    let running = json!({"phase": "Running", "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": true,
        "restartCount": 4, "containerID": "fake://x", "state": {"running": {}}}]});
    assert_eq!(restore(None, running).0, "adopt main#4 true");
    // Over before: over.
    let (commands, scene_after) = restore(None, json!({"phase": "Succeeded"}));
    assert_eq!((commands.as_str(), scene_after.machine.phase()), ("", "Succeeded"));
    // Never begun.
    assert_eq!(restore(None, json!({"phase": "Pending"})).0, "");
}
