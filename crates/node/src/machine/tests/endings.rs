//! How containers end: deletion, hooks, probes, deadlines.

use super::*;

#[test]
fn deletion_ends_containers_and_then_the_object() {
    check(
        &one("Always"),
        &up(
            "! delete 3 => Killing: Stopping container main, kill main#0 3s\ndelete 3 =>\nended main#0 137 => finalize\ntick =>\nphase == Failed",
        ),
    );
    check(&one("Never"), &up("ended main#0 0 =>\ndelete 30 => finalize\nphase == Succeeded"));
    check(&one("Never"), "bound => prepare\ndelete 30 => finalize\nphase == Failed\nprepared =>");
    // A shorter grace period counts, a longer one does not.
    check(&one("Never"), &up("delete 30 => kill main#0 30s\ndelete 2 => kill main#0 2s\ndelete 60 =>"));
    // A pod that is not this node's yet is not this node's to remove.
    check(&one("Never"), "delete 30 => prepare");
    // Deleted while a start is on its way.
    check(
        &one("Never"),
        "bound => prepare
         prepared => start main#0
         delete 30 => cancel main#0
         started main#0 => kill main#0 30s
         ended main#0 143 => finalize",
    );
    check(
        &one("Never"),
        "bound => prepare\nprepared => start main#0\ndelete 30 => cancel main#0\nrefused main#0 never => finalize",
    );
    // The object vanished without waiting.
    check(&one("Always"), &up("gone => kill main#0 1s\nended main#0 137 => clean up"));
}

#[test]
fn eviction_ends_a_pod_for_good() {
    check(
        &one("Always"),
        &up("! evict too much => Evicted: too much, Killing: Stopping container main, kill main#0 5s
             evict more =>
             ended main#0 137 =>
             phase == Failed
             reason == Evicted
             message == too much
             conditions.DisruptionTarget.reason == TerminationByKubelet
             tick =>"),
    );
    check(&one("Never"), &up("ended main#0 0 =>\nevict too late =>\nphase == Succeeded"));
}

#[test]
fn a_node_that_ends_takes_what_runs_along() {
    check(
        &one("Always"),
        &up("! shutdown 3 => Killing: Stopping container main, kill main#0 3s
             ended main#0 143 =>
             phase == Failed
             reason == Terminated
             message == Pod was terminated in response to imminent node shutdown.
             conditions.DisruptionTarget.reason == TerminationByKubelet
             tick =>"),
    );
    // What asks for less time gets less; what does not run is neither started nor failed.
    check(&one("Always"), &up("! shutdown 60 => Killing: Stopping container main, kill main#0 5s"));
    check(&one("Always"), "bound => prepare\nshutdown 3 =>\nprepared =>\ntick =>\nphase == Pending");
}

#[test]
fn hooks() {
    let spec =
        one_with("Always", json!({"lifecycle": {"postStart": {"exec": {}}, "preStop": {"sleep": {"seconds": 1}}}}));
    let begin = "tick => prepare\nbound =>\nprepared => start main#0\nstarted main#0 => PostStart main#0\ncontainerStatuses.main.started == false\n";
    check(
        &spec,
        &format!(
            "{begin}
             hook post main#0 ok =>
             containerStatuses.main.started == true
             delete 5 => PreStop main#0
             wake == 5.0
             at 4
             hook pre main#0 ok => kill main#0 2s
             ended main#0 0 => finalize"
        ),
    );
    check(
        &spec,
        &format!(
            "{begin}hook post main#0 ok =>\ndelete 5 => PreStop main#0\nat 5\ntick => kill main#0 2s\nhook pre main#0 ok =>"
        ),
    );
    check(
        &spec,
        &format!("{begin}! hook post main#0 boom => FailedPostStartHook: PostStartHook failed, Killing: FailedPostStartHook, PreStop main#0
                  hook pre main#0 ok => kill main#0 5s
                  ended main#0 137 => start main#1"),
    );
}

#[test]
fn probes_decide_readiness_and_life() {
    let probe = |period: i32| json!({"exec": {}, "periodSeconds": period, "failureThreshold": 2});
    let spec =
        one_with("Always", json!({"startupProbe": probe(1), "readinessProbe": probe(2), "livenessProbe": probe(3)}));
    check(
        &spec,
        "tick => prepare
         bound =>
         prepared => start main#0
         started main#0 => Startup main#0
         ! probe startup main#0 no => Unhealthy: Startup probe failed: no
         wake == 1.0
         at 1
         tick => Startup main#0
         probe startup main#0 ok => Liveness main#0, Readiness main#0
         containerStatuses.main.started == true
         containerStatuses.main.ready == false
         probe readiness main#0 ok =>
         probe liveness main#0 ok =>
         containerStatuses.main.ready == true
         wake == 3.0
         at 4
         tick => Liveness main#0, Readiness main#0
         probe liveness main#0 bad =>
         probe readiness main#0 bad =>
         containerStatuses.main.ready == true
         at 7
         tick => Liveness main#0, Readiness main#0
         probe readiness main#0 bad =>
         containerStatuses.main.ready == false
         ! probe liveness main#0 bad => Unhealthy: Liveness probe failed: bad, Killing: Container main failed liveness probe, will be restarted, kill main#0 5s
         ended main#0 137 => start main#1
         started main#1 => Startup main#1
         probe liveness main#0 bad =>",
    );
}

#[test]
fn the_deadline_ends_the_pod() {
    let mut spec = one("Never");
    spec["activeDeadlineSeconds"] = json!(10);
    check(
        &spec,
        &up("wake == 10.0
             at 10
             ! tick => DeadlineExceeded: Pod was active on the node longer than the specified deadline, Killing: Stopping container main, kill main#0 5s
             phase == Running
             reason == null
             ended main#0 143 =>
             phase == Failed
             reason == DeadlineExceeded
             message == Pod was active on the node longer than the specified deadline
             wake == null"),
    );
    check(&spec, &up("ended main#0 0 =>\nat 20\ntick =>\nphase == Succeeded"));
    check(&spec, "tick => prepare\nbound =>\nat 10\ntick =>\nphase == Failed\nreason == DeadlineExceeded");
}
