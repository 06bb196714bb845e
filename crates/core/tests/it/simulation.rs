//! Caches lag, in any order; the end is the same, and nothing is written twice.

use std::collections::VecDeque;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kubetask_api::TaskPhase;
use kubetask_core::task::{Action, JobSeen};
use proptest::prelude::*;
use serde_json::json;

use crate::fixtures::{config_map, ended, exited, plain_agent, pod, running, task, waits};
use crate::world::World;

/// What the operator's watches will deliver, each in its own order.
struct Cluster {
    agents: VecDeque<()>,
    guides: VecDeque<()>,
    jobs: VecDeque<Job>,
    pods: VecDeque<Vec<Pod>>,
}

impl Cluster {
    /// The histories of Job and Pod, as the other controllers write them once the Job was created.
    fn run(&mut self, world: &World, job: &Job, code: i32) {
        let t = &world.task;
        self.jobs.push_back(job.clone());
        self.jobs.push_back(match code {
            0 => ended(job.clone(), "Complete", "", 6),
            _ => ended(job.clone(), "Failed", "BackoffLimitExceeded", 6),
        });
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.pods.push_back(vec![pod(t, 1, "Pending", waits("ContainerCreating", ""))]);
        self.pods.push_back(vec![pod(t, 1, "Running", running(2))]);
        self.pods.push_back(vec![pod(t, 1, phase, exited(code, 2, 5, "said"))]);
    }

    fn deliver(&mut self, world: &mut World, pick: usize) {
        let mut open: Vec<usize> = Vec::new();
        for (index, empty) in
            [self.agents.is_empty(), self.guides.is_empty(), self.jobs.is_empty(), self.pods.is_empty()]
                .into_iter()
                .enumerate()
        {
            if !empty {
                open.push(index);
            }
        }
        match open.get(pick % open.len().max(1)) {
            Some(0) => {
                self.agents.pop_front();
                world.seen.agent = Some(plain_agent().into());
            }
            Some(1) => {
                self.guides.pop_front();
                world.add_config_map(config_map("guides", json!({"k": "guide"})));
            }
            Some(2) => world.set_job(self.jobs.pop_front().unwrap()),
            Some(3) => world.set_pods(self.pods.pop_front().unwrap()),
            _ => {}
        }
    }

    fn is_quiet(&self) -> bool {
        self.agents.is_empty() && self.guides.is_empty() && self.jobs.is_empty() && self.pods.is_empty()
    }
}

proptest! {
    #[test]
    fn any_order_of_events_leads_to_the_same_end(
        picks in proptest::collection::vec(0usize..12, 40),
        code in prop_oneof![Just(0), Just(7)],
    ) {
        let spec = json!({"agentRef": "claude", "prompt": "hi", "contexts": [
            {"type": "File", "file": {"filePath": "/workspace/task.md", "source": {"configMapKeyRef": {"name": "guides", "key": "k"}}}},
        ]});
        let mut world = World::new(task(spec), None);
        let mut cluster = Cluster { agents: [()].into(), guides: [()].into(), jobs: VecDeque::new(), pods: VecDeque::new() };
        let mut created: Option<Job> = None;
        for (now, pick) in picks.into_iter().chain(std::iter::repeat_n(0, 20)).enumerate() {
            cluster.deliver(&mut world, pick);
            // The clock stands still while caches lag, so that only events move things.
            let plan = world.plan(6);
            prop_assert!(plan.actions.len() <= 2);
            if plan.verify_job {
                // The server has it, the cache does not.
                prop_assert!(created.is_some(), "step {}", now);
                let lagging = world.seen.job.clone();
                world.set_job(created.clone().unwrap());
                let again = world.plan(6);
                world.carry_out(&again);
                world.seen.job = lagging;
                continue;
            }
            for action in &plan.actions {
                if let Action::CreateJob(job) = action {
                    prop_assert!(created.is_none(), "created twice");
                    created = Some((**job).clone());
                    cluster.run(&world, job, code);
                }
            }
            world.carry_out(&plan);
            if created.is_some() && world.seen.job.found() == created.as_ref() && cluster.jobs.len() == 2 {
                // Its watch has not delivered it yet.
                world.seen.job = JobSeen::NotCached;
            }
        }
        prop_assert!(cluster.is_quiet());
        let status = world.status();
        let (phase, exit) = if code == 0 { (TaskPhase::Completed, 0) } else { (TaskPhase::Failed, 7) };
        prop_assert_eq!(status.phase, Some(phase));
        prop_assert_eq!(status.exit_code, Some(exit));
        prop_assert_eq!(status.result.as_deref(), Some("said"));
        prop_assert_eq!(status.attempts, Some(1));
        prop_assert_eq!(crate::world::second(status.start_time.unwrap().0), 2);
        prop_assert_eq!(crate::world::second(status.completion_time.unwrap().0), 5);
        prop_assert_eq!((world.jobs_created, world.files.len()), (1, 1));
        // At most two for what was missing, three for the rest.
        prop_assert!(world.status_writes <= 5, "{} status writes", world.status_writes);
        prop_assert!(world.plan(7).is_quiet());
    }
}

#[test]
fn planning_is_fast() {
    let world = World::new(
        task(json!({"agentRef": "claude", "prompt": "hi", "contexts": [
            {"type": "File", "file": {"filePath": "/workspace/a.md", "source": {"inline": "A"}}},
        ]})),
        Some(plain_agent()),
    );
    let settings = kubetask_core::task::Settings::default();
    let begin = std::time::Instant::now();
    let runs = 2000;
    for _ in 0..runs {
        std::hint::black_box(kubetask_core::task::plan(crate::fixtures::at(0), &world.task, &world.seen, &settings));
    }
    let each = begin.elapsed() / runs;
    // Without optimisation and on a busy machine; the target is 100 µs with.
    assert!(each < std::time::Duration::from_millis(2), "{each:?} a plan");
}
