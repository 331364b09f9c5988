"""Looking captions through: a local page over a folder, its captions and the decisions of people about them.

May import folder and the floors below. Start reading at ``shelf.py``, which reads and saves; ``app.py`` answers the
page, whose parts are ``review.html`` and the scripts beside it; ``asking.py`` holds the model, loaded when first asked.
"""
