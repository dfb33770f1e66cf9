"""What is benchmarked."""
