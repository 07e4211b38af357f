"""The control plane's page in a real browser: what one sees, and what can be done with it."""
