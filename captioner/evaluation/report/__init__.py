"""The report of an evaluation: one HTML file that needs no network.

May import evaluation, data, metrics and everything below them. Start reading at ``page.py``; ``page.html`` is its
template.
"""
