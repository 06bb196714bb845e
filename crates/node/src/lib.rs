//! The kubelet's stand-in
