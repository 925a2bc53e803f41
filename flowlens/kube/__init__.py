"""Speaks HTTP to Kubernetes: the API server and this node's kubelet, over urllib3 and nothing more.

The `kubernetes` package would cost each node tens of MiB for what an agent needs: lists, watches
and one GET. Objects are decoded only in the fields that somebody reads (msgspec). Nothing here
knows what an answer means for metrics, and nothing here writes to the API server.

errors, access, kubeconfig -> connection, client -> watcher, kubelet -> pod_source
"""
