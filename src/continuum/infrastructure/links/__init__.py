"""What enforces and checks links."""
