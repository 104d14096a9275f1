"""Run the programs in examples, and write the page of the gallery with their pictures.

Run this from the root of the checkout after adding or changing an example: ``.venv/bin/python tools/gallery.py`` runs
all of them, ``tools/gallery.py NAME ...`` these alone, ``tools/gallery.py --page`` none. Each is run in an empty
folder, where it writes ``NAME.svg``; the pictures go to docs/images/gallery, and docs/gallery.md is written anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES, PAGE, PICTURES = ROOT / "examples", ROOT / "docs" / "gallery.md", ROOT / "docs" / "images" / "gallery"
HEADER = re.compile(r"\A# %% \[markdown\]\n# # (?P<title>.+)\n#\n(?P<text>(?:# .+\n)+)\n# %%\n")
ORDER = [
    "plain_loop",
    "resnet_batch_norm",
    "gpt_warmup",
    "muon_adamw",
    "lora",
    "sam",
    "autoencoder",
    "pinn",
    "block_sharpness",
    "spectrum",
    "oscillating_direction",
    "headroom",
    "find_lr",
    "lr_sweep",
    "mini_batches",
    "sign_descent",
    "spikes",
    "hysteresis",
    "grokking",
    "sharpness_dimension",
    "central_flow",
]
WIDTH = 640  # of a picture on the page, in pixels
COLOURS = 128  # of a picture: enough for lines and letters, in a third of the bytes

INTRODUCTION = """\
# Gallery

Each example is a program of less than 40 lines in the folder [`examples`](../examples/README.md), which runs on a CPU
in seconds and without a network. `python examples/plain_loop.py` prints a sentence and writes its picture into the
current folder. The programs open as notebooks, too ([how](../examples/README.md)).
"""


def header_of(program: Path) -> tuple[str, str]:
    """The title of an example and the sentences below it; ValueError where it does not begin with such a cell."""
    found = HEADER.match(program.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{program.name} does not begin with a markdown cell of a title and some sentences")
    return found["title"], "\n".join(line[2:] for line in found["text"].splitlines())


def page() -> str:
    """The page, from the first cells of the examples."""
    parts = [INTRODUCTION]
    for name in ORDER:
        if not (EXAMPLES / f"{name}.py").exists():
            continue
        title, text = header_of(EXAMPLES / f"{name}.py")
        picture = f"![{title}](images/gallery/{name}.png)"
        parts.append(f"## {title}\n\n{text}\n\n{picture}\n\n[examples/{name}.py](../examples/{name}.py)\n")
    return "\n".join(parts)


def run(name: str) -> str:
    """Run an example in an empty folder, keep its picture, and give what it printed."""
    import vl_convert
    from PIL import Image

    printed, before = io.StringIO(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
        os.chdir(folder)
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
            svg = Path(f"{name}.svg").read_text(encoding="utf-8")
        finally:
            os.chdir(before)
    width = re.search(r'width="(\d+(?:\.\d+)?)"', svg)
    scale = WIDTH / float(width[1]) if width else 1.0
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(vl_convert.svg_to_png(svg, scale=min(scale, 1.3))))
    picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(PICTURES / f"{name}.png", optimize=True)
    return printed.getvalue()


def main(arguments: list[str]) -> None:
    names = [] if arguments == ["--page"] else arguments or [n for n in ORDER if (EXAMPLES / f"{n}.py").exists()]
    for name in names:
        began = time.process_time()
        printed = run(name).strip()
        print(f"{name} ({time.process_time() - began:.1f} s of CPU time): {printed}", flush=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
