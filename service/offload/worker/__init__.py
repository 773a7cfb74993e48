"""What runs in a worker process: decode, validate, call, encode, answer.  Imports neither aiohttp nor asyncio."""
