"""Hostile data files that must be made: bombs, damaged tables, and things in the place of files."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.data_bytes import BYTES, GOOD_LINE
from tests.hostile.judge import Bench, Call, Case


def big_line(path: Path) -> None:
    path.write_bytes(b'{"prompt": "' + b"a" * (65 << 20) + b'", "completion": "b"}\n' + GOOD_LINE)


def line_without_end(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)  # NUL, a gigabyte of it, none of it on the disk


def gzip_bomb(path: Path) -> None:
    """A gigabyte and a half of good rows in 5 MB."""
    _bomb(path, GOOD_LINE * 25_000, 1_600)


def gzip_bomb_in_a_row(path: Path) -> None:
    """One line that goes on for two gigabytes."""
    _bomb(path, b"a" * (1 << 20), 2_048, first=b'{"prompt": "')


def gzip_bomb_of_blank_lines(path: Path) -> None:
    _bomb(path, b"\n" * (1 << 20), 2_048)


def _bomb(path: Path, piece: bytes, times: int, first: bytes = b"") -> None:
    """Packed once, and that packing repeated: a deflate stream may be made of whole pieces."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)
    start = zlib.compressobj(9, wbits=-15)
    head = start.compress(first) + start.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(b"\x1f\x8b\x08" + b"\0" * 7 + head + packed * times + b"\x03\x00" + b"\0" * 8)


def parquet(*columns: tuple[str, Any], rows: int = 3, **options: Any) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    table = pyarrow.table(
        {name: pyarrow.repeat(value, rows) if isinstance(value, str) else pyarrow.array(value) for name, value in columns}
    )
    pyarrow.parquet.write_table(table, sink, **options)
    return sink.getvalue()


def parquet_bomb(path: Path) -> None:
    path.write_bytes(parquet(("prompt", "a" * (1 << 20)), rows=100, compression="zstd", use_dictionary=False))


def parquet_dictionary_bomb(path: Path) -> None:
    """A gigabyte of cells, all the same one: a dictionary of one word and 1,000 times its number."""
    path.write_bytes(parquet(("prompt", "a" * (1 << 20)), rows=1_000, compression="zstd"))


def parquet_damaged(path: Path) -> None:
    whole = parquet(("prompt", "tea?"), ("completion", "yes"), rows=500, compression="none", use_dictionary=False)
    path.write_bytes(whole[:300] + b"\xff" * 900 + whole[1200:])


def parquet_cut(path: Path) -> None:
    path.write_bytes(parquet(("prompt", "tea?"), rows=500)[:-40])


def parquet_of_numbers(path: Path) -> None:
    path.write_bytes(parquet(("prompt", [1, 2, 3]), ("completion", [1.5, float("nan"), None])))


def parquet_of_bytes(path: Path) -> None:
    path.write_bytes(parquet(("prompt", [b"\xff\x00", b"a", b"b"]), ("completion", ["a", "b", "c"])))


def parquet_of_odd_types(path: Path) -> None:
    import datetime
    import decimal

    path.write_bytes(
        parquet(
            ("prompt", [datetime.datetime(1, 1, 1), None, datetime.datetime(9999, 12, 31)]),
            ("completion", [decimal.Decimal("1.5")] * 3),
            ("label", [[[[1]]], None, []]),
        )
    )


def parquet_of_no_utf_8(path: Path) -> None:
    import pyarrow

    path.write_bytes(parquet(("prompt", pyarrow.array([b"\xff\x00", b"a", b"b"]).view(pyarrow.string())), ("completion", "yes")))


def parquet_of_times_after_the_sun(path: Path) -> None:
    import pyarrow

    when = pyarrow.array([1, 1 << 62, 3], pyarrow.timestamp("us"))
    path.write_bytes(parquet(("prompt", "tea?"), ("completion", "yes"), ("at", when)))


def parquet_without_columns(path: Path) -> None:
    path.write_bytes(parquet())


def parquet_with_a_column_twice(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["prompt", "prompt"])
    pyarrow.parquet.write_table(twice, path)


def arrow_cut(path: Path) -> None:
    import pyarrow

    sink = io.BytesIO()
    table = pyarrow.table({"prompt": ["tea?"] * 500})
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(sink.getvalue()[:-900])


def arrow_damaged(path: Path) -> None:
    """Offsets of texts that point far outside."""
    import pyarrow

    sink = io.BytesIO()
    table = pyarrow.table({"prompt": ["tea?"] * 500})
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    whole = sink.getvalue()
    path.write_bytes(whole[:400] + b"\x7f" * 800 + whole[1200:])


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def link_to_memory(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


def unreadable(path: Path) -> None:
    path.write_bytes(GOOD_LINE)
    path.chmod(0)


MADE: dict[str, Callable[[Path], None]] = {
    "a line of 65 MiB.jsonl": big_line,
    "a line of a gigabyte.jsonl": line_without_end,
    "a line of a gigabyte.txt": line_without_end,
    "a line of a gigabyte.csv": line_without_end,
    "a line of a gigabyte.json": line_without_end,
    "gzip bomb.jsonl.gz": gzip_bomb,
    "gzip bomb in one row.jsonl.gz": gzip_bomb_in_a_row,
    "gzip bomb of blank lines.jsonl.gz": gzip_bomb_of_blank_lines,
    "gzip bomb in one row.txt": gzip_bomb_in_a_row,
    "gzip bomb in one value.json": gzip_bomb_in_a_row,
    "gzip bomb of blank lines.txt": gzip_bomb_of_blank_lines,
    "parquet bomb.parquet": parquet_bomb,
    "parquet bomb of one word.parquet": parquet_dictionary_bomb,
    "parquet damaged.parquet": parquet_damaged,
    "parquet cut.parquet": parquet_cut,
    "parquet of numbers.parquet": parquet_of_numbers,
    "parquet of bytes.parquet": parquet_of_bytes,
    "parquet of odd types.parquet": parquet_of_odd_types,
    "parquet without columns.parquet": parquet_without_columns,
    "parquet with a column twice.parquet": parquet_with_a_column_twice,
    "arrow cut.arrow": arrow_cut,
    "arrow damaged.arrow": arrow_damaged,
    "a pipe.jsonl": pipe,
    "a pipe.parquet": pipe,
    "a pipe.arrow": pipe,
    "a pipe.txt": pipe,
    "a folder.jsonl": folder,
    "a folder.parquet": folder,
    "a folder.arrow": folder,
    "a link to nowhere.jsonl": link_to_nowhere,
    "a link to itself.jsonl": link_to_itself,
    "a link to a device.jsonl": link_to_a_device,
    "a link to a device.parquet": link_to_a_device,
    "a link to a pipe.jsonl": link_to_a_pipe,
    "a link to memory.jsonl": link_to_memory,
    "unreadable.jsonl": unreadable,
    "parquet of no utf-8.parquet": parquet_of_no_utf_8,
    "parquet of times after the sun.parquet": parquet_of_times_after_the_sun,
}
SLOW = {
    "a line of a gigabyte.txt",
    "a line of a gigabyte.csv",
    "a line of a gigabyte.json",
    "gzip bomb of blank lines.txt",
    "gzip bomb.jsonl.gz",
    "gzip bomb in one row.txt",
    "gzip bomb in one value.json",
}
"""Seconds of reading each: only `make test-all` has the time."""


def doors(bench: Bench, file: Path, number: int) -> Iterator[Call]:
    """Every file meets `data check`, and one of the other commands that read data, by turns. What can be read may be."""
    small, any_end = bench.small, (0, 1, 2)
    yield Call(["data", "check", file, *(["--json"] if number % 2 else [])], any_end)
    yield [
        Call(["data", "convert", file, "--to", "messages", "--out", bench.out / "converted.jsonl"], any_end),
        Call(["sample", f"model.policy={small.sft}", f'data.files=["{file}"]', "--dry-run", "-q"], any_end),
        Call(["sft", f"model.policy={small.base}", f'data.files=["{file}"]', "--run-dir", bench.out / "run", "-q"], any_end),
        Call(["reward", f"model.policy={small.sft}", f'data.files=["{file}"]', "--run-dir", bench.out / "run", "-q"], any_end),
        Call(["init", "--model", small.sft, "--data", file, "--no-forecast", "--out", bench.out, "-q"], any_end),
        Call(["pretrain", f"model.init={small.base}", f'data.files=["{file}"]', "--run-dir", bench.out / "run", "-q"], any_end),
    ][number % 6]


def cases() -> Iterator[tuple[Case, bool]]:
    """(case, whether it is slow)."""
    for number, name in enumerate((*BYTES, *MADE)):

        def make(bench: Bench, name: str = name, number: int = number) -> Sequence[Call]:
            file = bench.folder / name
            if name in MADE:
                MADE[name](file)
            else:
                file.write_bytes(BYTES[name])
            return list(doors(bench, file, number))

        yield Case(f"data: {name}", make), name in SLOW
