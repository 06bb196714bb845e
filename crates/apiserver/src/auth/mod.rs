//! Who asks, and whether they may: authentication by client certificate, bearer token or the in-process identity,
//! impersonation, and role-based access control.

mod authenticate;
pub(crate) mod escalation;
pub(crate) mod rbac;
pub(crate) mod token;

use std::collections::BTreeMap;

pub use authenticate::AuthConfig;
pub(crate) use authenticate::Authenticator;

/// Group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// Group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of those who did not say who they are.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// User name of those who did not say who they are.
pub const ANONYMOUS: &str = "system:anonymous";

/// An authenticated identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Unique id, for service accounts the uid of the object.
    pub uid: String,
    /// Groups, [`AUTHENTICATED`] included.
    pub groups: Vec<String>,
    /// Further facts about the user.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user with groups; [`AUTHENTICATED`] is added.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// A member of [`MASTERS`].
    pub fn admin(name: impl Into<String>) -> Self {
        Self::new(name, [MASTERS])
    }

    /// Who did not say who they are.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// Whether the user belongs to a group.
    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
