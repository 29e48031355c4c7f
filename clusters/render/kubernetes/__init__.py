"""A compiled cluster as Kubernetes manifests: LeaderWorkerSets, or a RayCluster of KubeRay."""
