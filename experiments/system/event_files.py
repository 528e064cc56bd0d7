"""A file of events that TensorBoard reads."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image


class EventFile:
    """A new file of events, in place of all that are in a folder.

    It is written at once, without a thread: what fails, fails where it is called.
    """

    def __init__(self, folder: Path) -> None:
        """Deletes the folder's files of events and begins a new one."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        for path in folder.glob("events.out.tfevents.*"):
            path.unlink()
        self._file = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        # A TensorBoard that has read the deleted files forgets what they had.
        self._write(0, session_log=SessionLog(status=SessionLog.START))

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers by their names."""
        from tensorboardX.proto.summary_pb2 import Summary

        named = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step, summary=Summary(value=named))

    def picture(self, step: int, name: str, path: Path) -> None:
        """Writes a PNG as it is in its file."""
        from tensorboardX.proto.summary_pb2 import Summary

        with Image.open(path) as picture:
            width, height = picture.size
        content = Summary.Image(
            height=height, width=width, colorspace=4, encoded_image_string=path.read_bytes()
        )
        self._write(step, summary=Summary(value=[Summary.Value(tag=name, image=content)]))

    def close(self, failed: bool) -> None:
        """Ends the file."""
        del failed  # the file does not tell it
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._file.write_event(Event(wall_time=time.time(), step=step, **content))
        self._file.flush()
