"""OpenFaaS in a cluster: which distribution, its objects, and what machines need for it."""
