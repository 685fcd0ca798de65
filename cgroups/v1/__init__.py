"""cgroup v1: one group spread over hierarchies mounted one by one."""
