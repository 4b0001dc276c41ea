"""A video file -> its frames, upright, each with its number and its time; its sound untouched beside them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from agelens.errors import (
    CorruptVideoError,
    InputError,
    MissingCodecError,
    NoFramesError,
    TruncatedVideoError,
    UnreadableError,
    UnsupportedFormatError,
)
from agelens.formats import SNIFF_BYTES, describe
from agelens.limits import Limits
from agelens.sources import as_source
from agelens.video.backend import Native, load_av
from agelens.video.clock import Clock
from agelens.video.frames import Clip, Frame

LEAST_MISSING: Final = 0.6
"""Seconds that a file must lack of the length it states before it counts as truncated."""

MISSING_SHARE: Final = 0.02
"""And this share of its length: headers are not exact."""

HEALTHY: Final = 1
"""Packets that may fail in a healthy file: some cameras end one with a packet that holds no picture."""

_DEMUXER_OPTIONS: Final = {"protocol_whitelist": "none"}  # a playlist must not make us open other files or addresses


class VideoReader:
    """Reads one file from beginning to end. A context manager.

    Args:
        path: The file.
        start: Seconds from the beginning at which to begin.
        end: Seconds from the beginning at which to stop.
        sound: Whether packets of sound are kept for whoever takes them.

    Attributes:
        clip: What the file says of itself.
        failure: Once the frames are read: why they are not all there, or None.
        damaged: Packets that couldn't be decoded, and frames that were decoded with errors. Packets before the first
            frame don't count: where a recording begins in the middle they miss what they build on.
        packets: Packets of sound, in the order of the file, for the writer to take.

    Raises:
        InputError: The file can't be read, or holds no video that can be decoded.
        MissingPackageError: PyAV isn't installed.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, start: float = 0.0, end: float | None = None, sound: bool = False
    ) -> None:
        self._av = load_av()
        self._name = os.fsdecode(path)
        self._start, self._end = start, end
        self._file = _open_file(self._name)
        self.failure: InputError | None = None
        self.damaged = 0
        self._spoiled = 0  # frames that were decoded with errors
        self.packets: deque[Native] = deque()
        self._natives: Iterator[Native] = iter(())
        self._states_container = False  # whether the length is that of all streams together
        try:
            self._container = self._open(self._file)
            self._stream = self._choose_stream()
            self.sound_streams = list(self._container.streams.audio) if sound else []
            self.clip, self._origin, self._turns = self._look_at_first()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self._container.close()
        self._file.close()

    @property
    def time_base(self) -> Fraction:
        """The unit of the native frames' time stamps, in seconds."""
        base: Fraction = self._stream.time_base
        return base

    @property
    def pixel_shape(self) -> Fraction | None:
        """Width of a pixel of an upright frame against its height, where it isn't 1."""
        shape = self._stream.sample_aspect_ratio
        if not shape or shape == 1:
            return None
        return Fraction(1, 1) / shape if self._turns % 2 else Fraction(shape)

    def seconds_of(self, packet: Native) -> float | None:
        """The time of a packet of sound since the beginning of the clip."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        return None if stamp is None else float(stamp * packet.time_base) - self._origin

    def read_frames(self) -> Iterator[Frame]:
        """The frames, in order. What can't be decoded is passed over; see `failure` at the end."""
        number = self._seek() if self._start > 0 else 0
        period = 1 / float(self.clip.rate)
        last, reached = -1.0, 0.0
        ended_early = False
        for native in self._natives:
            seconds = last + period if native.pts is None else float(native.time) - self._origin
            seconds = max(round(seconds, 6), 0.0)
            if seconds <= last and last >= 0:
                seconds = last + 1e-6
            if self._end is not None and seconds >= self._end:
                ended_early = True
                break
            duration = max(float((native.duration or 0) * self.time_base), period)
            if seconds >= self._start - 1e-6:
                yield Frame(number, seconds, duration, native, self._turns)
            last, reached = seconds, seconds + duration
            number += 1
        if not ended_early and self.failure is None:
            self.failure = self._explain_end(last, reached, number)
        if self.failure is None and (self.damaged > HEALTHY or self._spoiled):
            self.failure = CorruptVideoError(
                f"{self._name!r} is damaged: pieces that could not be decoded, or not wholly: {self.damaged:,}; what"
                " was read is kept; copy or download it again"
            )

    def _open(self, file: IO[bytes]) -> Native:
        try:
            return self._av.open(file, mode="r", options=_DEMUXER_OPTIONS, metadata_errors="ignore")
        except self._av.error.FFmpegError as error:
            raise self._explain_refusal(error) from error

    def _explain_refusal(self, error: Exception) -> InputError:
        self._file.seek(0)
        head = self._file.read(SNIFF_BYTES)
        if head[4:8] == b"ftyp" and not _has_box(self._file, b"moov"):
            return TruncatedVideoError(
                f"{self._name!r} ends before its index, which this file has at its end: nothing of it can be read; copy"
                " or download it again"
            )
        return UnsupportedFormatError(
            f"{self._name!r} is no video that FFmpeg can read ({getattr(error, 'strerror', None) or error}): it holds"
            f" {describe(head)}"
        )

    def _choose_stream(self) -> Native:
        found = self._container.streams.best("video")
        if found is None:
            if not self._container.streams.video:
                kinds = ", ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"
                raise NoFramesError(f"{self._name!r} holds no pictures, only {kinds}; give a file with video")
            found = self._container.streams.video[0]
        if found.codec_context is None:
            raise MissingCodecError(
                f"{self._name!r} is in a codec that this build of FFmpeg doesn't decode; convert it, for example to"
                " H.264, or install a build of PyAV with that codec"
            )
        found.thread_type = "AUTO"
        return found

    def _look_at_first(self) -> tuple[Clip, float, int]:
        """What the file says of itself, the time of its first frame, and how it is to be turned."""
        decoded = self._decode()
        first = next(decoded, None)
        if first is None:
            self.failure = None
            if self.damaged:
                raise CorruptVideoError(
                    f"no frame of {self._name!r} can be decoded: its data are damaged; copy or download it again"
                )
            raise NoFramesError(f"{self._name!r} holds no frame; it may have been cut off when it was recorded")
        origin = float(first.time) if first.pts is not None else 0.0
        turns = round(first.rotation / 90) % 4
        width, height = (first.height, first.width) if turns % 2 else (first.width, first.height)
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        rate = Fraction(rate) if 0 < rate <= 1000 else Fraction(25)
        self._natives = itertools.chain([first], decoded)
        return Clip(width, height, rate, self._stated_seconds()), origin, turns

    def _rewind(self) -> None:
        """Begins again where the format can't seek: the file is opened anew."""
        index = self._stream.index
        sounds = [stream.index for stream in self.sound_streams]
        self._container.close()
        self._file.seek(0)
        self.damaged, self._spoiled, self.failure = 0, 0, None
        self.packets.clear()
        self._container = self._open(self._file)
        self._stream = self._container.streams[index]
        self._stream.thread_type = "AUTO"
        self.sound_streams = [self._container.streams[i] for i in sounds]
        self._natives = self._decode()

    def _stated_seconds(self) -> float | None:
        """How long the pictures last; where that isn't told, how long all lasts."""
        stream = self._stream
        if stream.duration:
            return float(stream.duration * stream.time_base)
        tag = stream.metadata.get("DURATION", "")
        with contextlib.suppress(ValueError):
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        self._states_container = True
        return self._container.duration / 1e6 if self._container.duration else None

    def _measure(self) -> float:
        """Seconds from the first to the last of all that the file holds, as sound that goes on after the picture."""
        begin, end = float("inf"), 0.0
        broken = contextlib.suppress(self._av.error.FFmpegError, OSError)
        with self._path().open("rb") as file, self._open(file) as other, broken:
            for packet in other.demux():
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    begin = min(begin, float(stamp * packet.time_base))
                    end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
        return end - min(begin, end)

    def _decode(self) -> Iterator[Native]:
        """Native frames; packets of sound go to `packets`."""
        av = self._av
        packets = self._container.demux(self._stream, *self.sound_streams)
        refused, begun = 0, False
        clock = Clock()
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                self.failure = self._explain_break(error)
                packet = None
            if packet is None:
                break
            clock.straighten(packet)
            if packet.stream is not self._stream and packet.stream.type == "audio":
                self.packets.append(packet)
                continue
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                if packet.size and not isinstance(error, av.error.EOFError):
                    refused += 1
                    self.damaged += begun
                continue
            for frame in frames:
                begun = True
                self._spoiled += frame.is_corrupt
                self.damaged += frame.is_corrupt
                yield frame
        if not begun:
            self.damaged += refused
        with contextlib.suppress(av.error.FFmpegError):
            yield from self._stream.decode(None)

    def _seek(self) -> int:
        """Goes to the last frame before `start` from which decoding can begin; the number of that frame."""
        base = self.time_base
        target = int((self._start + self._origin) / base)
        if self.clip.seconds is not None and self._start >= self.clip.seconds:  # where times begin anew, there is more
            self._rewind()
            return 0
        try:
            self._container.seek(target, stream=self._stream, backward=True)
            first = next(self._decode(), None)
            if first is None or first.pts is None or first.pts > target:
                raise self._av.error.InvalidDataError(0, "not seekable")
            begin = first.pts
            self._container.seek(target, stream=self._stream, backward=True)
            self._natives = self._decode()
        except self._av.error.FFmpegError:
            self._rewind()
            return 0
        self.packets.clear()
        # Every packet is one frame: those before are counted without being decoded.
        with self._path().open("rb") as file, self._open(file) as other:
            stream = other.streams[self._stream.index]
            number, later, clock = 0, 0, Clock()
            for packet in other.demux(stream):
                if packet.pts is None:
                    continue
                clock.straighten(packet)
                if clock.has_jumped:  # a time means several frames then
                    self._rewind()
                    return 0
                number += packet.pts < begin
                later = later + 1 if packet.pts >= begin else 0
                if later > 64:  # no codec holds a frame back for longer
                    break
        return number

    def _path(self) -> Path:
        return Path(as_source(self._name).path or self._name)

    def _explain_break(self, error: Exception) -> InputError:
        why = getattr(error, "strerror", None) or error
        return TruncatedVideoError(f"{self._name!r} can't be read to its end ({why}); what was read is kept")

    def _explain_end(self, last: float, reached: float, count: int) -> InputError | None:
        if count == 0 or last < self._start:
            return NoFramesError(f"{self._name!r} has no frame between the start and the end that were asked for")
        stated = self.clip.seconds
        if _falls_short(reached, stated) and self._states_container:
            reached = max(reached, self._measure())
        if _falls_short(reached, stated):
            return TruncatedVideoError(
                f"{self._name!r} ends after {reached:.1f} of {stated:.1f} seconds: the file is truncated; what was read"
                " is kept"
            )
        return None


def _falls_short(reached: float, stated: float | None) -> bool:
    return stated is not None and stated - reached > max(LEAST_MISSING, MISSING_SHARE * stated)


def _open_file(name: str) -> IO[bytes]:
    """The file, open.

    Raises:
        InputError: As `agelens.sources` raises it for a picture.
    """
    source = as_source(name)
    if source.path is None:
        raise UnreadableError(f"{name!r} is a web address; download the video, or watch it with `agelens live`")
    try:
        status = Path(source.path).stat()
        if stat.S_ISREG(status.st_mode) and status.st_size:
            return Path(source.path).open("rb")
    except (OSError, ValueError):
        pass
    source.read(Limits(max_bytes=1))  # which knows all that can be wrong with a file, and says so
    raise UnreadableError(f"{name!r} cannot be read: {os.strerror(errno.EIO)}")


def _has_box(file: IO[bytes], kind: bytes) -> bool:
    """Whether an ISO base media file has a box of that kind at its top level (ISO/IEC 14496-12, 4.2)."""
    end = file.seek(0, os.SEEK_END)
    at = 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if head[4:8] == kind:
            return True
        at += size if size >= 8 else end
    return False
