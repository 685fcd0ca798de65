"""A file that a command was told to write: there when it is whole, or not at all."""

from __future__ import annotations

import os
import stat

from .errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO


class OutFile:
    """Stdout without a path; a pipe or a device as it is; anything else by a rename at the end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._unfinished = ""

    def __enter__(self) -> BinaryIO:
        self._file = self._open()
        return self._file

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            try:
                self._file.close()
            finally:
                unfinished, self._unfinished = self._unfinished, ""
                if unfinished and kind is not None:
                    os.unlink(unfinished)
            if unfinished and kind is None:
                os.rename(unfinished, self._path)
        except BrokenPipeError:
            raise
        except OSError as error:
            if kind is None:
                raise self._failure(error) from error

    def _open(self) -> BinaryIO:
        if not self._path:
            return open(1, "wb", closefd=False)
        try:
            if os.path.isdir(self._path):
                raise Failure(f"open {self._path}: is a directory")
            if os.path.exists(self._path) and not stat.S_ISREG(os.stat(self._path).st_mode):
                return open(self._path, "wb")
            unfinished = f"{self._path}.{os.urandom(4).hex()}.tmp"
            file = open(unfinished, "xb")
        except OSError as error:
            raise self._failure(error) from error
        self._unfinished = unfinished
        return file

    def _failure(self, error: OSError) -> Failure:
        return Failure(f"open {self._path}: {(error.strerror or str(error)).lower()}")
