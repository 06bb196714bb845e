//! Service accounts.

use super::{finalizers_on_create, finalizers_only};
use crate::kind::Hooks;

pub(crate) const HOOKS: Hooks =
    Hooks { validate: finalizers_on_create, validate_update: finalizers_only, ..Hooks::NONE };
