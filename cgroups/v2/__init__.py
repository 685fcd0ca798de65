"""cgroup v2: one tree for all controllers."""
