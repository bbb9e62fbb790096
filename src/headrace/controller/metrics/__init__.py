"""What monitoring reads: Prometheus' form of everything that is counted, and Databricks' export of one endpoint.

``subject`` is what is read of a served entity, ``definitions`` says what each metric means, ``reading`` takes one
moment of the controller, ``exposition`` and ``databricks`` put it into text. Reading is done in the event loop and is
short; making text of it takes longer and is done beside it.
"""
