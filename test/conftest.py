"""What all tests start from."""

from __future__ import annotations

import signal

# Shells start background jobs with these ignored, and children inherit that: who tests signals wants them obeyed.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
