"""Joining a GGUF file that was split (``model-00001-of-00003.gguf``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...errors import ModelError

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


def siblings(path: Path) -> list[Path]:
    """All parts of the file that this one is a part of, as far as they are there; or the file alone.

    >>> [str(part) for part in siblings(Path("tiny.gguf"))]
    ['tiny.gguf']
    """
    if (match := _PART.fullmatch(str(path))) is None:
        return [path]
    names = (f"{match[1]}-{number:05}-of-{match[3]}.gguf" for number in range(1, int(match[3]) + 1))
    return [part for name in names if (part := Path(name)).is_file()]


def value(reader: Any, key: str) -> Any:
    """The metadata's value for a key, or None if it has none."""
    field = reader.get_field(key)
    return None if field is None else field.contents()


def one_file(files: Sequence[Path]) -> Path | None:
    """The only file, or the first part of the only file that was split; None for no file and for more than one."""
    names = {match[1] if (match := _PART.fullmatch(str(file))) else str(file) for file in files}
    return min(files) if len(names) == 1 else None


def opened(path: Path) -> Any:
    """A reader of one file. Raises what ``gguf`` raises if it is not one."""
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]
        # A vocabulary is cut into a million pieces, and cutting a memory map takes several times as long as a plain array over it.
        data = property(lambda self: self._plain, lambda self, mapped: setattr(self, "_plain", np.asarray(mapped)))

    return Reader(path)


@contextmanager
def whole(path: Path) -> Iterator[tuple[Path, Any]]:
    """The file itself, or a temporary file that joins all parts and needs as much disk as they do; and its reader.

    Raises ModelError if a part is missing or belongs to another file.
    """
    reader = opened(path)
    count = value(reader, "split.count") or 1
    if count == 1:
        yield path, reader
        return
    parts = _parts(path, count)
    readers = [opened(part) for part in parts]
    _check(parts, readers)
    with TemporaryDirectory() as folder:
        joined = Path(folder) / path.name
        _join(readers, joined)
        yield joined, opened(joined)


def _parts(path: Path, count: int) -> list[Path]:
    match = _PART.fullmatch(str(path))
    if match is None or int(match[3]) != count:
        raise ModelError(
            f"{path.name} is one of {count} parts, and its name does not say which; parts are found by their names, "
            f"such as model-00001-of-{count:05}.gguf"
        )
    parts = [Path(f"{match[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise ModelError(f"{path.name} is one of {count} parts, and {', '.join(missing)} is not beside it")
    return parts


def _check(parts: Sequence[Path], readers: Sequence[Any]) -> None:
    # Files can be renamed, so the names alone prove nothing.
    for number, (part, reader) in enumerate(zip(parts, readers, strict=True)):
        if (value(reader, "split.no"), value(reader, "split.count")) != (number, len(parts)):
            raise ModelError(f"{part.name} is not the part that its name says (split.no {value(reader, 'split.no')})")
    names = [tensor.name for reader in readers for tensor in reader.tensors]
    count = value(readers[0], "split.tensors.count")
    if len(set(names)) < len(names) or count not in (None, len(names)):
        raise ModelError(f"expected {count or len(names)} tensors in the parts of {parts[0].name}, got {len(set(names))}")


def _join(readers: Sequence[Any], target: Path) -> None:
    """Write one file with the metadata of the first part and the tensors of all parts, byte for byte."""
    from gguf import GGUFValueType, GGUFWriter

    first = readers[0]
    writer = GGUFWriter(target, value(first, "general.architecture"), endianess=first.endianess)
    writer.data_alignment = first.alignment
    for name, field in first.fields.items():
        if not name.startswith(("GGUF.", "split.")) and name != "general.architecture":
            kind = field.types[0]
            writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.data, tensor_endianess=first.endianess)
    writer.close()
