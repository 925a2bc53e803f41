"""Plugins that every test may use: the cluster fixture brings a real Kubernetes up when a test asks for it."""

pytest_plugins = ["tests.testbed.fixtures"]
