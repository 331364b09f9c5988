"""The parts that all HTML pages share: frame, style, tables, charts, thumbnails, and a gallery to sort and filter.

May import data, metrics and the packages below them. Start reading at ``frame.py``; ``page.css`` is the style of every
page, and ``gallery.js`` the script of pages with a gallery.
"""
