"""System: memory allocation and torch's state in this process, Ctrl-C, file writes that survive a power cut, and
file names.

May import errors only. Its five modules do not depend on each other.
"""
