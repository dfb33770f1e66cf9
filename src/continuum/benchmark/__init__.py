"""Phase 3: the application under load."""
