"""Datasets that a load is made of: one reader a format, each from a file to lengths or to the fields of bodies.

A row that says something wrong is an error that names its line; a row that says something of no use here (a request
that failed, a conversation without an answer) is left out and counted.
"""
