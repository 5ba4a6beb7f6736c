import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_no_import_goes_up_the_house() -> None:
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout
