"""Phase 1: machines and the network between them."""
