"""Phase 2: what is installed on the machines."""
