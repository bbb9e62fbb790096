"""The web page: static files that poll the REST API. No framework, nothing from elsewhere, no data of their own.

The controller serves them at ``/`` and ``/static/``. The page keeps the key for the tab alone (session storage), shows
what the API tells and nothing that it computes otherwise, and says so when the server does not answer.
"""
