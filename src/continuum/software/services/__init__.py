"""Operating services on machines."""
