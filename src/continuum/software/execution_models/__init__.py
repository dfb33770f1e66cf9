"""How a worker runs."""
