"""The HTTP interface. It moves bytes and never reads a payload; it is the only layer that knows aiohttp's server.

Each of these may import those below it:

    app        which path goes where
    server/    connections, sockets, formatting and sending replies, the access log; does not know `routes/`
    routes/    handlers, one module per group of paths; do not know `server/`
    requests/  what a request asks for: its head, its body, its caller
    answers/   replies as values: outcomes, problems and their status codes
    parts, header_names
"""
