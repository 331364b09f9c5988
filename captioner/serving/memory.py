"""Resident memory of this process."""

from __future__ import annotations

import sys

if sys.platform == "win32":

    def resident() -> int:
        """Return 0: Windows has no such file or call in the standard library."""
        return 0

else:
    import os
    import resource

    def resident() -> int:
        """Return the resident bytes of this process; outside Linux, the most that it ever had."""
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else peak * 1024
