"""Who places workers on machines."""
