"""What is done to the host itself: bridge, firewall, limits, keys. Shared by providers."""
