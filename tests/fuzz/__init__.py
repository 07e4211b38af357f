"""Fuzzing guided by coverage: `make fuzz`, README.md."""
