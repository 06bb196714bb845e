//! The KubeTask API: the types of the six kinds of `kubetask.io/v1alpha1` and their CRDs.
//!
//! One file a kind ([`Task`], [`CronTask`], [`Agent`], [`KubeTaskConfig`], [`Batch`], [`BatchRun`]), and the words
//! everybody shares: [`conditions`], [`reasons`], [`labels`]. Data flows from the Rust types through schemars to
//! [`crds::crds`], which adds what Kubernetes wants in a structural schema. Validation rules (CEL) stand beside the
//! field they guard, so the server enforces them and every client gets the same message.
//!
//! Nothing here does I/O, and nothing here refuses unknown fields: the API server does (`fieldValidation`), so an old
//! client can read a newer object.

pub mod agent;
pub mod batch;
pub mod batchrun;
pub mod conditions;
pub mod config;
pub mod context;
pub mod crds;
pub mod crontask;
pub mod labels;
pub mod reasons;
pub mod schema;
pub mod task;

pub use agent::{Agent, AgentSpec, AgentStatus};
pub use batch::{Batch, BatchSpec};
pub use batchrun::{BatchRun, BatchRunSpec, BatchRunStatus};
pub use config::{KubeTaskConfig, KubeTaskConfigSpec};
pub use context::{Context, ContextType};
pub use crds::{crds, crds_json, crds_yaml};
pub use crontask::{CronTask, CronTaskSpec, CronTaskStatus, TaskTemplateSpec};
pub use task::{Task, TaskPhase, TaskSpec, TaskStatus};

/// The API group.
pub const GROUP: &str = "kubetask.io";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every object of ours.
pub const API_VERSION: &str = "kubetask.io/v1alpha1";
/// The name of the Agent used by a Task that names none, and of the only `KubeTaskConfig` that is read.
pub const DEFAULT_NAME: &str = "default";
