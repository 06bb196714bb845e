//! The operator against an embedded Kubernetes whose containers follow a script.

mod lifecycle;

use kubetask_api::{Task, TaskStatus};

/// A Task's status.
fn status(task: &Task) -> &TaskStatus {
    task.status.as_ref().unwrap()
}
