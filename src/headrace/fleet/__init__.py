"""Where replicas run.

``process`` starts one child that cannot outlive its parent; ``child`` and ``supervisor`` keep children for a whole
server, ``protocol`` is how to ask them; ``local`` places replicas on this machine's cores through the supervisor,
``static`` treats servers that already run as replicas, ``spawn`` runs replicas for a program of its own, such as a
profile. Nothing here decides how many replicas there should be.
"""
