"""
What another file would do with the requests that were seen last. *Cold, pure.*

Requests are restored from what the ring has kept (`restore`), the plans of both files are asked about each by the code
that live traffic asks (`decide`), in a way that notices when an answer depends on what was not kept (`probe`), and what
differs is told (`report`). Enters: two configurations as frames, and the entries of rings (`wire`). Leaves: a report.
Who may come in: `loader`, whose process does it, and `insight.explain`, which restores a single request.
"""
