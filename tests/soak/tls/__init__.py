"""TLS in a storm: certificates that change all the time, peers that speak it badly, and what must not come of it."""
