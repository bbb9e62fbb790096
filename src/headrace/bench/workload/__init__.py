"""What is sent, and when: arrivals, lengths, datasets, and the bodies of requests.

In: specifications (``spec``) and a seed. Out: due times and requests, each a pure function of the seed and the
request's number, so that
every process of a load run makes its own share, and the same seed gives the same requests at every rate. Sends nothing.
"""
