"""Inspection: what a dataset holds and what is wrong with it, before anything is trained.

May import data, metrics and errors. Start reading at ``examine.py``.
"""
