"""System: memory allocation and torch's state in this process, file writes that survive a power cut, and
file names.

May import errors only. Its four modules do not depend on each other.
"""
