"""`python -m continuum`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until signals are answered, in `main`, each ends this process without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from continuum.cli.main import main

main()
