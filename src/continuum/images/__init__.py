"""Machine images, built once and kept by the hash of their inputs."""
