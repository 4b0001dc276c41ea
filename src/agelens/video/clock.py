"""Times of packets, straightened where recordings were joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agelens.video.backend import Native

JUMP: Final = 0.5
"""Seconds by which times must jump back before they count as begun anew; frames out of order are nearer together."""


class Clock:
    """Times that go on where those of the packets begin anew, as in recordings that were joined."""

    def __init__(self) -> None:
        self._shift = 0.0
        # Of each stream: when the last packet began, when what came so far ends, and by how much it was shifted.
        self._streams: dict[int, tuple[float | None, float, float]] = {}

    @property
    def has_jumped(self) -> bool:
        """Whether times have begun anew."""
        return self._shift > 0

    def straighten(self, packet: Native) -> None:
        """Shifts the times of the next packet of the file so that they go on; all streams by the same."""
        base, index = packet.time_base, packet.stream.index
        last, end, shift = self._streams.get(index, (None, 0.0, self._shift))
        if packet.dts is not None:  # those of presentation jump back where frames are coded out of order
            time, length = float(packet.dts * base), float((packet.duration or 0) * base)
            if last is not None and time + shift < last - JUMP and self._shift > shift:
                shift = self._shift  # another stream began anew before
            if last is not None and time + shift < last - JUMP:
                shift = self._shift = end - time
            self._streams[index] = time + shift, max(end, time + shift + length), shift
        if shift:
            by = round(shift / base)
            packet.dts = None if packet.dts is None else packet.dts + by
            packet.pts = None if packet.pts is None else packet.pts + by
