"""Collects the pieces of an arriving body, a large one in memory that can be passed to a worker."""

from __future__ import annotations

from offload.wire.shared_bytes import LARGE_BYTES, SharedBytes, SharedWriter, is_supported


class Collector:
    """The body so far. The caller must call `finish` or `close`."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._writer: SharedWriter | None = None

    def add(self, piece: bytes) -> None:
        """Add a piece. Costs one copy at most."""
        if self._writer is not None:
            self._writer.write(piece)
            return
        self._pieces.append(piece)
        self._size_bytes += len(piece)
        if self._size_bytes > LARGE_BYTES:
            self._move_to_shared_memory()

    def finish(self) -> bytes | SharedBytes:
        """Returns the whole body; the caller owns it."""
        if self._writer is None:
            return b"".join(self._pieces)
        return self._writer.finish(is_final=False)

    def close(self) -> None:
        """Discard an unfinished body."""
        if self._writer is not None:
            self._writer.close()

    def _move_to_shared_memory(self) -> None:
        """Keep the pieces as they are if shared memory is not supported or not available."""
        if not is_supported():
            return
        try:
            self._writer = SharedWriter()
        except OSError:
            return
        for piece in self._pieces:
            self._writer.write(piece)
        self._pieces.clear()
