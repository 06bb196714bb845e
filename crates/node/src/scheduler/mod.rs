//! Gives pods without a node this node, where they fit, and says why where they do not.

pub(crate) mod affinity;
pub(crate) mod bind;
pub(crate) mod fit;
