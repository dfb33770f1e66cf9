"""Watching a deployment and its run while they last: what is known, one snapshot of it, a page."""
