"""Tests of flowlens.kube: against a scripted HTTPS server, and against a real etcd + kube-apiserver."""
