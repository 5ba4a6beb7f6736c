"""A profile of a process by py-spy, which samples its stacks from outside."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

_SAMPLES_PER_SECOND = 200
_SHOWN = 30
_CALLS_EVERYTHING = 0.95
"""Functions in a larger share of the samples are left out."""


def find_sampler() -> str:
    sampler = Path(sys.executable).with_name("py-spy")
    if not sampler.exists():
        raise SystemExit("py-spy is missing: install it with `make .venv/.bench-ready`")
    return str(sampler)


def profile(pid: int, file: Path, *, sampler: str, seconds: int) -> None:
    """Prints the most frequent functions. Writes the stacks as flamegraph.pl and speedscope.app read them."""
    subprocess.run(
        [
            *(sampler, "record", "--pid", str(pid), "--duration", str(seconds)),
            *("--rate", str(_SAMPLES_PER_SECOND), "--function", "--format", "raw", "--output", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    own, whole = Counter[str](), Counter[str]()
    for line in file.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(samples)
        whole.update(dict.fromkeys(frames, int(samples)))
    for title, counts in (("of each function itself", own), ("with what it calls", whole)):
        shares = [(samples / own.total(), frame) for frame, samples in counts.most_common()]
        print(f"\nShare of the samples, {title}:")
        for share, frame in [each for each in shares if each[0] < _CALLS_EVERYTHING][:_SHOWN]:
            print(f"  {share:6.1%}  {frame}")
