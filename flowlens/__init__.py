"""flow-lens: TCP metrics from the kernel, attributed to the container that owns the socket."""

__version__ = "0.1.0"
