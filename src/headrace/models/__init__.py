"""Models: where weights come from, what is registered, and how a file is checked before anything runs it.

``catalogue`` names the models that Headrace can fetch, ``pull`` fetches one into the cache, ``convert`` re-quantises
it, ``gguf_file`` reads what a GGUF file says of itself, and ``registry`` holds the models of one server. Nothing here
runs a model; that is ``engines``.
"""
