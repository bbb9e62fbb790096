"""What can go wrong between a client and a server, as distinct types: each asks for another reaction."""


class WireError(Exception):
    """Base of the errors that a ``Client`` tells."""


class ConnectFailed(WireError):
    """No connection: nothing was sent, so the request may go elsewhere."""


class ConnectionLost(WireError):
    """The server closed the connection before the answer was complete."""


class StaleConnection(ConnectionLost):
    """A reused connection was closed before a byte of the answer came: the server had closed it while it was idle."""


class ProtocolError(WireError):
    """The answer is not HTTP/1.1, or larger than the caller allows."""
