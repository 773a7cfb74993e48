"""The worker process: decodes, validates, calls, encodes and answers. It imports neither aiohttp nor asyncio."""
