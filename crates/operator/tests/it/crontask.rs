//! CronTasks, by a clock that the tests set.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kubetask_api::{CronTask, CronTaskStatus, Task, TaskPhase, conditions, labels, reasons};
use kubetask_operator::{Clock, OperatorConfig};
use kubetask_testkit::{Faults, Script, TestCluster, TestConfig, WAIT};
use serde_json::json;

use crate::{agent, status};

fn t(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A cluster without an operator, and the clock of the operators to come.
async fn asleep(at: &str) -> anyhow::Result<(TestCluster, Clock)> {
    asleep_with(at, None).await
}

async fn asleep_with(at: &str, faults: Option<Faults>) -> anyhow::Result<(TestCluster, Clock)> {
    let clock = Clock::default();
    clock.set(t(at));
    let operator = OperatorConfig { clock: clock.clone(), ..OperatorConfig::default() };
    let config = TestConfig { operator, faults, without_operator: true };
    Ok((TestCluster::with(config).await?, clock))
}

/// A CronTask in YAML.
fn cron(name: &str, spec: &str) -> String {
    let spec = spec.trim_start_matches('{');
    format!(
        "{{apiVersion: kubetask.io/v1alpha1, kind: CronTask, metadata: {{name: {name}}}, spec: {{taskTemplate: {{spec: {{prompt: hi}}}}, {spec}}}\n---\n"
    )
}

/// Makes it look as if the operator had looked last when this run was promised.
async fn promise(cluster: &TestCluster, name: &str, at: &str) -> anyhow::Result<()> {
    let status = json!({"status": {"nextScheduleTime": at}});
    let patch = kube::api::Patch::Merge(status);
    cluster.api::<CronTask>().patch_status(name, &kube::api::PatchParams::default(), &patch).await?;
    Ok(())
}

async fn wait_for(
    cluster: &TestCluster,
    name: &str,
    what: &str,
    wished: impl Fn(&CronTaskStatus) -> bool + Send + Sync,
) -> anyhow::Result<CronTaskStatus> {
    let wished = |cron: Option<&CronTask>| cron.and_then(|c| c.status.as_ref()).is_some_and(&wished);
    let cron = cluster.wait_for(&cluster.api::<CronTask>(), name, what, wished).await?;
    Ok(cron.unwrap().status.unwrap())
}

fn next_is(at: &str) -> impl Fn(&CronTaskStatus) -> bool + use<> {
    let at = t(at);
    move |status| status.next_schedule_time.as_ref().is_some_and(|next| next.0 == at)
}

fn reason(status: &CronTaskStatus) -> &str {
    conditions::find(&status.conditions, conditions::SCHEDULED).map_or("", |c| &c.reason)
}

/// The names of all Tasks.
async fn tasks(cluster: &TestCluster) -> anyhow::Result<BTreeSet<String>> {
    let all = cluster.api::<Task>().list(&ListParams::default()).await?;
    Ok(all.items.iter().map(ResourceExt::name_any).collect())
}

fn run(name: &str, at: &str) -> String {
    format!("{name}-{}", t(at).as_second())
}

#[tokio::test]
async fn crontask_runs_by_standard_cron_and_time_zone() -> anyhow::Result<()> {
    let (mut cluster, clock) = asleep("2027-03-28T06:00:00Z").await?;
    // Nine o'clock in Berlin, where clocks went forward in the night, and half past twelve in India.
    cluster.apply(&cron("berlin", "{schedule: '0 9 * * SUN', timeZone: Europe/Berlin, catchUp: Skip}")).await?;
    cluster.apply(&cron("kolkata", "{schedule: '30 12 28 3 *', timeZone: Asia/Kolkata, catchUp: Skip}")).await?;
    cluster.start_operator();
    for name in ["berlin", "kolkata"] {
        wait_for(&cluster, name, "promised", next_is("2027-03-28T07:00:00Z")).await?;
    }
    clock.set(t("2027-03-28T06:59:59.500Z"));
    for name in ["berlin", "kolkata"] {
        let task = run(name, "2027-03-28T07:00:00Z");
        let made = cluster.wait_for_phase(&task, TaskPhase::Completed).await?;
        assert_eq!(made.labels()[labels::CRONTASK], name);
        assert_eq!(made.annotations()[labels::SCHEDULED_AT], "2027-03-28T07:00:00Z");
        assert_eq!(made.owner_references()[0].kind, "CronTask");
    }
    let over = |s: &CronTaskStatus| s.last_successful_time.is_some() && s.active.is_empty();
    let berlin = wait_for(&cluster, "berlin", "over", over).await?;
    assert_eq!(berlin.last_schedule_time.unwrap().0, t("2027-03-28T07:00:00Z"));
    assert_eq!(berlin.next_schedule_time.unwrap().0, t("2027-04-04T07:00:00Z"));
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn crontask_shows_the_next_run_and_says_what_is_wrong_with_a_schedule() -> anyhow::Result<()> {
    let (mut cluster, _clock) = asleep("2027-01-01T00:00:00Z").await?;
    cluster.start_operator();
    cluster.apply(&cron("c", "{schedule: '0 9 * * *', timeZone: Mars/Base, catchUp: Skip}")).await?;
    let wrong = wait_for(&cluster, "c", "told", |s| reason(s) == reasons::INVALID_SCHEDULE).await?;
    assert!(wrong.conditions[0].message.contains("Mars/Base"), "{wrong:?}");
    cluster.patch::<CronTask>("c", json!({"spec": {"timeZone": null}})).await?;
    wait_for(&cluster, "c", "promised", next_is("2027-01-01T09:00:00Z")).await?;
    cluster.patch::<CronTask>("c", json!({"spec": {"timeZone": "Europe/Berlin"}})).await?;
    wait_for(&cluster, "c", "promised again", next_is("2027-01-01T08:00:00Z")).await?;
    assert!(tasks(&cluster).await?.is_empty());
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn crontask_allow_forbid_and_replace() -> anyhow::Result<()> {
    let (mut cluster, clock) = asleep("2027-01-01T08:59:59Z").await?;
    cluster.engine().always(Script::runs_until_stopped());
    for policy in ["Allow", "Forbid", "Replace"] {
        let spec = format!("{{schedule: '0 * * * *', catchUp: Skip, concurrencyPolicy: {policy}}}");
        cluster.apply(&cron(&policy.to_lowercase(), &spec)).await?;
    }
    cluster.start_operator();
    let names = ["allow", "forbid", "replace"];
    for name in names {
        cluster.wait_for_phase(&run(name, "2027-01-01T09:00:00Z"), TaskPhase::Running).await?;
    }
    clock.set(t("2027-01-01T09:59:59.500Z"));
    for name in names {
        wait_for(&cluster, name, "past ten", next_is("2027-01-01T11:00:00Z")).await?;
    }
    cluster.wait_for_phase(&run("allow", "2027-01-01T10:00:00Z"), TaskPhase::Running).await?;
    cluster.wait_for_phase(&run("replace", "2027-01-01T10:00:00Z"), TaskPhase::Running).await?;
    let old = cluster.wait_for_phase(&run("replace", "2027-01-01T09:00:00Z"), TaskPhase::Failed).await?;
    assert_eq!(status(&old).reason.as_deref(), Some(reasons::STOPPED));
    let forbid = wait_for(&cluster, "forbid", "skipped", |s| reason(s) == reasons::SKIPPED).await?;
    assert_eq!(forbid.active.len(), 1);
    assert!(!tasks(&cluster).await?.contains(&run("forbid", "2027-01-01T10:00:00Z")));
    let both = wait_for(&cluster, "allow", "both", |s| s.active.len() == 2).await?;
    assert!(both.active.iter().all(|task| task.uid.is_some()), "{both:?}");
    wait_for(&cluster, "replace", "one", |s| s.active.len() == 1).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn crontask_missed_runs_of_a_laptop_asleep_follow_the_policy() -> anyhow::Result<()> {
    // An hour, a week, a year; how many runs each policy makes up for. The Tasks are suspended: they are counted only.
    for (woken, all) in [("2027-01-01T10:10:00Z", 1), ("2027-01-08T09:10:00Z", 100), ("2028-01-01T09:10:00Z", 100)] {
        let (mut cluster, clock) = asleep(woken).await?;
        let policies = [
            ("skip", "Skip", "", 0),
            ("once", "Once", "", 1),
            ("all", "All", "", all),
            ("late", "All", ", startingDeadlineSeconds: 300", 0),
        ];
        for (name, policy, deadline, _) in policies {
            let spec = format!(
                "{{schedule: '0 * * * *', catchUp: {policy}, concurrencyPolicy: Allow{deadline}, suspend: false}}"
            );
            cluster.apply(&cron(name, &spec).replace("prompt: hi", "prompt: hi, suspend: true")).await?;
            promise(&cluster, name, "2027-01-01T10:00:00Z").await?;
        }
        cluster.start_operator();
        for (name, _, _, expect) in policies {
            let now = clock.now();
            let woken = |s: &CronTaskStatus| s.next_schedule_time.as_ref().is_some_and(|next| next.0 > now);
            let status = wait_for(&cluster, name, "awake", woken).await?;
            let made = tasks(&cluster).await?.iter().filter(|task| task.starts_with(&format!("{name}-"))).count();
            assert_eq!((made, status.active.len()), (expect, expect), "{name} until {woken:?}", woken = clock.now());
        }
        cluster.shutdown().await;
    }
    Ok(())
}

#[tokio::test]
async fn crontask_wakes_with_the_machine() -> anyhow::Result<()> {
    let (mut cluster, clock) = asleep("2027-01-01T08:00:00Z").await?;
    cluster.apply(&cron("c", "{schedule: '0 9 * * *', catchUp: Skip, startingDeadlineSeconds: 3600}")).await?;
    cluster.start_operator();
    wait_for(&cluster, "c", "promised", next_is("2027-01-01T09:00:00Z")).await?;
    // Nothing counts the time while a machine sleeps; the operator finds that it is later than it thought.
    clock.set(t("2027-01-03T09:30:00Z"));
    cluster.wait_for_phase(&run("c", "2027-01-03T09:00:00Z"), TaskPhase::Completed).await?;
    // And a clock that is set back repeats nothing.
    clock.set(t("2027-01-03T08:59:59Z"));
    cluster.patch::<CronTask>("c", json!({"spec": {"successfulTasksHistoryLimit": 5}})).await?;
    wait_for(&cluster, "c", "looked at", |s| s.observed_generation == Some(2)).await?;
    wait_for(&cluster, "c", "promised", next_is("2027-01-04T09:00:00Z")).await?;
    assert_eq!(tasks(&cluster).await?.len(), 1);
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn crontask_suspend_and_trigger_now() -> anyhow::Result<()> {
    let (mut cluster, _clock) = asleep("2027-01-01T08:59:59Z").await?;
    cluster.start_operator();
    cluster.apply(&cron("c", "{schedule: '0 9 * * *', suspend: true, catchUp: Skip}")).await?;
    let suspended = wait_for(&cluster, "c", "suspended", |s| reason(s) == reasons::SUSPENDED).await?;
    assert_eq!(suspended.next_schedule_time, None);
    for value in ["one", "two"] {
        let annotation = json!({"metadata": {"annotations": {labels::TRIGGER: value}}});
        cluster.patch::<CronTask>("c", annotation).await?;
        wait_for(&cluster, "c", "triggered", |s| s.last_trigger.as_deref() == Some(value)).await?;
    }
    for name in tasks(&cluster).await? {
        cluster.wait_for_phase(&name, TaskPhase::Completed).await?;
    }
    assert_eq!(tasks(&cluster).await?.len(), 2);
    cluster.patch::<CronTask>("c", json!({"spec": {"suspend": false}})).await?;
    wait_for(&cluster, "c", "resumed", |s| s.next_schedule_time.is_some()).await?;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn crontask_history_is_limited_and_what_it_made_goes_with_it() -> anyhow::Result<()> {
    let (mut cluster, _clock) = asleep("2027-01-01T10:00:30Z").await?;
    let spec = "{schedule: '0 * * * *', catchUp: All, concurrencyPolicy: Allow, successfulTasksHistoryLimit: 2}";
    cluster.apply(&cron("c", spec)).await?;
    promise(&cluster, "c", "2027-01-01T06:00:00Z").await?;
    cluster.start_operator();
    let expect: BTreeSet<String> = ["2027-01-01T09:00:00Z", "2027-01-01T10:00:00Z"].map(|at| run("c", at)).into();
    wait_for(&cluster, "c", "over", |s| s.active.is_empty() && s.last_successful_time.is_some()).await?;
    let gone = async {
        while tasks(&cluster).await?.len() > 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WAIT, gone).await??;
    assert_eq!(cluster.requests().count("create", "tasks"), 5);
    // Which ones are the latest depends on which ended last; they are ours.
    assert_eq!(tasks(&cluster).await?.len(), expect.len());
    cluster.api::<CronTask>().delete("c", &DeleteParams::background()).await?;
    let gone = async {
        while !tasks(&cluster).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WAIT, gone).await??;
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn crontask_whose_task_is_refused_says_so_and_goes_on_when_it_may() -> anyhow::Result<()> {
    let (mut cluster, _clock) = asleep("2027-01-01T09:00:10Z").await?;
    // Somebody has a Task of that name.
    let taken = run("c", "2027-01-01T09:00:00Z");
    cluster.apply(&(crate::task(&taken, "{prompt: mine, suspend: true}") + &agent("a", "{agentImage: acme}"))).await?;
    cluster.apply(&cron("c", "{schedule: '0 9 * * *'}")).await?;
    promise(&cluster, "c", "2027-01-01T09:00:00Z").await?;
    cluster.start_operator();
    let refused = wait_for(&cluster, "c", "refused", |s| reason(s) == reasons::TASK_REJECTED).await?;
    assert!(refused.conditions[0].message.contains(&taken), "{refused:?}");
    cluster.api::<Task>().delete(&taken, &DeleteParams::background()).await?;
    wait_for(&cluster, "c", "created", |s| reason(s) == reasons::TASK_CREATED).await?;
    cluster.wait_for_phase(&taken, TaskPhase::Completed).await?;
    cluster.shutdown().await;
    Ok(())
}

/// Operators die wherever they are, requests fail and answers get lost: each run that was due has one Task.
#[tokio::test]
async fn crontask_runs_never_twice_and_are_never_lost_whatever_happens() -> anyhow::Result<()> {
    const CRONS: usize = 4;
    const MINUTES: i64 = 25;
    let faults = Faults::seeded(7);
    let begin = t("2027-01-01T00:00:30Z");
    let (mut cluster, clock) = asleep_with("2027-01-01T00:00:30Z", Some(faults.clone())).await?;
    for n in 0..CRONS {
        let spec = "{schedule: '* * * * *', catchUp: All, concurrencyPolicy: Allow, successfulTasksHistoryLimit: 100}";
        // The Tasks are suspended: this is about their creation.
        cluster.apply(&cron(&format!("c{n}"), spec).replace("prompt: hi", "prompt: hi, suspend: true")).await?;
        promise(&cluster, &format!("c{n}"), "2027-01-01T00:01:00Z").await?;
    }
    for minute in 0..=MINUTES {
        clock.set(begin + SignedDuration::from_mins(minute));
        cluster.start_operator();
        // Wherever it is by then; sometimes it lives longer than a minute.
        tokio::time::sleep(Duration::from_millis(5 + u64::try_from(minute * 37 % 90)?)).await;
        if minute % 3 != 2 {
            cluster.kill_operator();
        }
    }
    faults.end();
    cluster.kill_operator();
    clock.set(begin + SignedDuration::from_mins(MINUTES));
    cluster.start_operator();
    let mut expect = BTreeSet::new();
    for n in 0..CRONS {
        let name = format!("c{n}");
        let last = Timestamp::from_second(begin.as_second() - 30 + MINUTES * 60)?;
        wait_for(&cluster, &name, "up to date", |s| s.last_schedule_time.as_ref().is_some_and(|at| at.0 == last))
            .await?;
        expect.extend((1..=MINUTES).map(|m| format!("{name}-{}", begin.as_second() - 30 + m * 60)));
    }
    assert_eq!(tasks(&cluster).await?, expect);
    let requests = cluster.requests().all();
    let created = requests.iter().filter(|r| r.verb == "create" && r.resource == "tasks" && r.answer == Some(201));
    assert!(created.count() <= expect.len());
    cluster.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn crontask_many_that_are_due_at_once_are_created_together() -> anyhow::Result<()> {
    const CRONS: usize = 150;
    let (mut cluster, clock) = asleep("2027-01-01T08:00:00Z").await?;
    for n in 0..CRONS {
        let cron = cron(&format!("c{n}"), "{schedule: '0 9 * * *', catchUp: Skip}");
        cluster.apply(&cron.replace("prompt: hi", "prompt: hi, suspend: true")).await?;
    }
    cluster.start_operator();
    for n in 0..CRONS {
        wait_for(&cluster, &format!("c{n}"), "promised", next_is("2027-01-01T09:00:00Z")).await?;
    }
    let writes = cluster.requests().count("patch", "crontasks/status");
    assert_eq!(writes, CRONS, "nobody is looked at who is not due");
    clock.set(t("2027-01-01T08:59:59Z"));
    for n in 0..CRONS {
        wait_for(&cluster, &format!("c{n}"), "past nine", next_is("2027-01-02T09:00:00Z")).await?;
    }
    assert_eq!(tasks(&cluster).await?.len(), CRONS);
    assert_eq!(cluster.requests().count("create", "tasks"), CRONS);
    // One status for each run that began, and one for what was seen of its Task at most.
    assert!(cluster.requests().count("patch", "crontasks/status") <= writes + 2 * CRONS);
    cluster.shutdown().await;
    Ok(())
}
