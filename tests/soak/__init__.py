"""Storms: a sidecar under steady load while everything around it fails; docs/soak.md says what is held."""
