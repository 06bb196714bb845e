//! The order in which objects are created: what others refer to comes first. Order within a kind stays.

use super::Manifest;

/// Sorts manifests so that nothing is created before what it needs.
pub fn sort(manifests: &mut [Manifest]) {
    manifests.sort_by_key(|manifest| rank(manifest.kind()));
}

fn rank(kind: &str) -> u8 {
    match kind {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ResourceQuota" | "LimitRange" | "NetworkPolicy" => 2,
        "ServiceAccount" | "Secret" | "ConfigMap" | "PersistentVolume" | "PersistentVolumeClaim" => 3,
        "ClusterRole" | "Role" => 4,
        "ClusterRoleBinding" | "RoleBinding" => 5,
        "KubeTaskConfig" => 6,
        "Agent" => 7,
        "Batch" => 8,
        "Task" | "CronTask" | "BatchRun" => 10,
        _ => 9,
    }
}
