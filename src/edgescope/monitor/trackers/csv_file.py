"""Readings as lines of a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path


class CSVFile:
    """Appends a line ``step,key,value`` for each value to ``readings.csv`` in the folder of the record.

    Without a folder the file is in the working directory. A run that is resumed appends: where a step is there twice,
    the later lines count.
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = (folder or Path()) / "readings.csv"

    def log(self, values: dict[str, float], step: int) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            if file.tell() == 0:
                lines.writerow(["step", "key", "value"])
            lines.writerows([step, key, repr(value)] for key, value in values.items())

    def close(self) -> None:
        pass
