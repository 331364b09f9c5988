"""Inspection of a dataset before training: statistics, duplicates, damaged files and split leaks.

May import html, data, metrics and errors. Start reading at ``examine.py``.
"""
