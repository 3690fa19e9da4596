"""A service over HTTP that learns one example at a time and forgets exactly, and its page.

:mod:`bruno.serving.app` puts the parts together; ``bruno serve`` runs it. It needs the
extra ``serve``.
"""
