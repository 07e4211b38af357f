"""
The demonstration: services with their sidecars as real processes, and traffic through them.

What enters is how long and how fast; what leaves is a screen for people, or a line for each claim that was checked.
Nothing here is used by `run`; `cli.demo` comes in through the `show` of a room inside. The apps know nothing of the
sidecar but the variable `HTTP_PROXY`, and the sidecars are the same `sidecar run` that users start.
"""
