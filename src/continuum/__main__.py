"""`python -m continuum`."""

from continuum.cli.main import main

main()
