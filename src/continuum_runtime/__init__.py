"""What runs inside machines: endpoints, workers, and the delay emulator.

Imports nothing from `continuum`, and runs on the Python that the machine has.
"""
