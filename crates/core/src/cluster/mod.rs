//! Tasks whose Agent names another cluster.
//!
//! ```text
//! Job of the Task ──home──▶ relay Job here (submit, then follow)  +  what the relay makes there (Spec)
//! Job and Pods there ──told──▶ Told, the relay's last words ──▶ how the Task ended
//! ```
//!
//! The Job at home runs a *relay*: our own program, which makes the agent's Job on the other cluster, follows its log
//! and tells how it ended. So the log and the status are where everybody looks for them, a Pod here that moves to
//! another node finds the Job there by its name, and no operator has to be alive for an agent to go on.

mod home;
mod references;
mod spec;
mod told;

pub use home::{FINALIZER, Recorded, recorded, relay};
pub use spec::{CLUSTER_DIR, CONFIG_MAPS_DIR, Copied, KUBECONFIG_KEY, OWNER, SECRETS_DIR, SPEC_ENV, SUBMIT, Spec};
pub use told::{Told, told};
