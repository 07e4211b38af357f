"""What tests share: real processes, real servers, and waiting for conditions with a deadline."""
