"""What /proc and cgroupfs say, and nothing about what it means for metrics.

Every function takes the folder to read, so that a hostPath mount (`/host/proc`) and a recorded tree
work like the real thing. Processes and cgroups vanish while they are read: that is never an error,
and what may not be read is counted. Only files are opened here; no Kubernetes, no kernel maps.

cgroup_path (pure), cgroupfs, procfs
"""
