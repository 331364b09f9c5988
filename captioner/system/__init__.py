"""System: memory allocation and torch's state in this process, Ctrl-C, a connection to Ray, file writes that survive a
power cut, and file names.

May import errors only. Its six modules do not depend on each other.
"""
