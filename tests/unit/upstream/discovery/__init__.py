"""Endpoints that come while the sidecar runs."""
