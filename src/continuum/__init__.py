"""Continuum: emulated cloud, edge and endpoint machines, and benchmarks on them."""
