"""What makes machines."""
