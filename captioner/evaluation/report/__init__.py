"""The report: an evaluation as one HTML file that needs no network, for people to look through.

May import evaluation, data, metrics and what lies below. Start reading at ``page.py``; ``page.html`` is its frame.
"""
