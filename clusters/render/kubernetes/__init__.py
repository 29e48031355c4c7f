"""Renders Kubernetes manifests: LeaderWorkerSets, or RayClusters of KubeRay."""
