//! In-process clusters and checks of the whole, for tests only.
//!
//! * [`TestCluster`]: an embedded Kubernetes in a temporary directory, with a scripted container engine, KubeTask's
//!   definitions and the operator. Everything is real but the containers.
//! * [`Requests`]: what a client asked of the API, to count.
//! * [`Faults`]: a client between the operator and the API that fails as networks and busy servers do.
//!
//! A test makes objects from YAML, waits by watching, and counts:
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use kubetask_api::TaskPhase;
//! use kubetask_testkit::TestCluster;
//!
//! let cluster = TestCluster::start().await?;
//! cluster.apply("{apiVersion: kubetask.io/v1alpha1, kind: Task, metadata: {name: t}, spec: {prompt: hi}}").await?;
//! cluster.wait_for_phase("t", TaskPhase::Completed).await?;
//! assert_eq!(cluster.requests().count("create", "jobs"), 1);
//! # cluster.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod cluster;
mod faults;
mod middle;
mod requests;
mod waiting;

pub use cluster::{TestCluster, TestConfig};
pub use faults::Faults;
pub use kubetask_engine::fake::{ExecReply, FakeEngine, Script};
pub use kubetask_engine::spec::ContainerSpec;
pub use requests::{Request, Requests};
pub use waiting::WAIT;
