"""System: memory allocation and torch's state in this process, and file writes that survive a power cut.

May import errors only. Its three modules do not depend on each other.
"""
