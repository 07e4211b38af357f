"""What a file says about TLS and identity, as a plan has it."""
