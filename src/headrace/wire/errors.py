"""What can go wrong between a client and a server, as distinct types: each asks for another reaction."""


class WireError(Exception):
    """Base of the errors that ``Client`` raises."""


class ConnectFailed(WireError):
    """No connection: nothing was sent, so the request may go elsewhere."""


class FirstByteTimeout(WireError):
    """Nothing of the answer's body arrived in time; the connection was closed, which cancels the request."""


class ConnectionLost(WireError):
    """The server closed the connection before the answer was complete."""


class ProtocolError(WireError):
    """The answer is not HTTP/1.1, or larger than the caller allows."""
