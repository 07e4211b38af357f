"""
The demonstration: an app with its sidecar and two versions of a service as real processes, and traffic through them.

What enters is how long and how fast; what leaves is a screen for people, or a line for each claim that was checked.
Nothing here is used by `run`; `cli.demo` comes in through `show`. The apps know nothing of the sidecar but the
variable `HTTP_PROXY`, and the sidecar is the same `sidecar run` that users start.
"""
