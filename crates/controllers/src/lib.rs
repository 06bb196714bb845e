//! Stand-ins for kube-controller-manager
