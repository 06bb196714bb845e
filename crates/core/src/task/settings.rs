//! What is the same for every Task of one operator.

use kubetask_api::config::Notifications;

/// The agent that is used when neither Task nor Agent names an image.
pub const DEFAULT_AGENT_IMAGE: &str = "quay.io/zhaoxue/kubetask-agent-gemini:latest";
/// The repository of our own image. The embedded node recognises it and runs its own binary.
pub const OWN_IMAGE_REPOSITORY: &str = "kubetask/kubetask";

/// Whoever agents of clusters run as, unless somebody says otherwise: nobody special, and not root.
const RESTRICTED_USER: i64 = 1000;

/// What is the same for every Task of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The image of init containers that fetch contexts.
    pub own_image: String,
    /// The image of Tasks without an Agent, and of Agents without an image.
    pub default_agent_image: String,
    /// The user id of agents whose Agent sets no security context. With it the pods are all that Pod Security
    /// "restricted" asks for; without it the image (or the embedded node) decides who the agent runs as.
    pub run_as_user: Option<i64>,
    /// The same for agents on other clusters: whoever the operator's own machine lets agents run as, those are clusters.
    pub run_as_user_elsewhere: Option<i64>,
    /// Gives every agent a trace context, and not only those whose Task has one.
    pub traces: bool,
    /// What is told of Tasks in namespaces whose configuration says nothing about it.
    pub notifications: Option<Notifications>,
}

impl Default for Settings {
    /// For the embedded node: the sandbox decides who the agent runs as.
    fn default() -> Self {
        Self {
            own_image: format!("{OWN_IMAGE_REPOSITORY}:{}", env!("CARGO_PKG_VERSION")),
            default_agent_image: DEFAULT_AGENT_IMAGE.to_owned(),
            run_as_user: None,
            run_as_user_elsewhere: Some(RESTRICTED_USER),
            traces: false,
            notifications: None,
        }
    }
}

impl Settings {
    /// For a cluster: pods that pass Pod Security "restricted".
    pub fn restricted() -> Self {
        Self { run_as_user: Some(RESTRICTED_USER), ..Self::default() }
    }

    /// For an agent on another cluster.
    pub(super) fn elsewhere(&self) -> Self {
        Self { run_as_user: self.run_as_user_elsewhere, ..self.clone() }
    }
}
