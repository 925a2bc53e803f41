"""The only room that knows bpf(2): structs, engines, maps, batch reads.

Nothing here knows a pod, a configuration file or Prometheus. `tracer.Tracer` is what the agent uses;
an engine (`core`, `bcc`) only turns sources into map and program file descriptors.
"""
