//! KubeTask's decisions: pure functions from the world to a plan.
//!
//! No I/O, no clock, no randomness: what is known comes in as [`task::Seen`], the time comes in as an argument, and
//! what shall be done comes out as a [`task::Plan`] in which every name is already chosen. The operator gathers, calls,
//! and carries out; whoever does it twice does it once.
//!
//! * [`task`]: a Task and its Agent become a Job; a Job and its Pods become a Task's status.
//! * [`context`]: contexts become files, mounts and init containers.
//! * [`cluster`]: the Job of an Agent that names another cluster.
//! * [`queue`]: who may run when an Agent is busy. [`agent`]: what an Agent's status says.
//! * [`cron`]: which runs of a CronTask are due. [`batch`]: which Tasks a BatchRun needs. [`child`]: what both look at of
//!   a Task that they made. [`retention`]: what is old.
//! * [`convert`]: the older WorkspaceConfig becomes an Agent. [`deploy`]: the objects of an installation.

pub mod agent;
pub mod batch;
pub mod child;
pub mod cluster;
pub mod context;
pub mod convert;
pub mod cron;
pub mod deploy;
pub mod names;
pub mod queue;
pub mod retention;
pub mod task;
