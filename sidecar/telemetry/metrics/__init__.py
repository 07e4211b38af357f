"""
What is counted and measured, and how it is told: to a scraper by Prometheus, by a worker to its supervisor.

Enters: additions to plain integers (`instruments`), bound in advance for each outcome; at a scrape, what upstreams,
connections and the process are just now. Leaves: an exposition in small pieces (`scrape`, `exposition`), or what grew
since the last report (`report`), which `merge` adds up. Every metric is a row of `catalogue`, from which
docs/metrics.md is made. Who may come in: `telemetry.recorder`; `admin` for the formats, `workers` to merge.
"""
