"""What HTTP/2 and gRPC add to the storm: peers by `hpack` and nothing else of ours, on both sides; docs/soak.md."""
