"""
The control plane's sockets: 15010 for sidecars and people, 15014 for probes and scrapers.

Enters: HTTP/1.1, by aiohttp. Leaves: lines of streams, JSON, the page, metrics, an access log. Whatever a peer sends
is data within bounds; what it may ask is decided in `access`. Who may come in: `control.start`.
"""
