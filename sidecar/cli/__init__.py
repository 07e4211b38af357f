"""
The command line: `main` finds the command, a file holds each.

What enters is an argument list; what leaves is text for people or JSON for programs, and an exit code. Commands are
imported when they are called, so that `run` carries nothing that only the others need.
"""
