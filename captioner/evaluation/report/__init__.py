"""The report of an evaluation: one HTML file that needs no network.

May import evaluation, html, metrics and everything below them. Start reading at ``page.py``.
"""
