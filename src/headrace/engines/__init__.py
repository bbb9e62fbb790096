"""How to run one replica of a model.

``base`` is the interface and what crosses it, ``catalogue`` finds an engine by name. An engine says whether a model can
run here, with what command, and what a gateway must know of its HTTP server. It starts nothing: that is ``fleet``.
"""
