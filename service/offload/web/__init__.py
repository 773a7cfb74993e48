"""The HTTP interface: the only package that knows aiohttp's server.  It moves bytes and never looks into a payload."""
