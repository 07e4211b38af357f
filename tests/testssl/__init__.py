"""What testssl.sh finds at our listeners: `make testssl`, docs/tls-peers.md."""
