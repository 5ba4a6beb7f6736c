"""`make chaos`: a random search for what breaks the farm's promises. The seed reproduces the plan."""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from pprint import pprint

from chaos.enough import shortfalls
from chaos.planning import make_plan
from chaos.run import HISTORY, run
from support.processes import end_fork_server, heed_signals


def main() -> int:
    arguments = _arguments()
    plan = make_plan(arguments.seed, arguments.seconds)
    if arguments.show_plan:
        pprint(plan, width=150)
        return 0
    print(f"seed {plan.seed}; again: make chaos SEED={plan.seed} SECONDS={plan.seconds:g}", flush=True)
    heed_signals()
    folder = Path(tempfile.mkdtemp(prefix="botfarm-chaos-"))
    is_kept = arguments.keep
    try:
        tally, findings = asyncio.run(run(plan, folder))
        too_little = list(shortfalls(plan, tally.grants, findings.compared))
        is_kept = is_kept or bool(findings.violations or too_little)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    except BaseException:
        is_kept = True
        raise
    finally:
        end_fork_server()
        if is_kept:
            print(f"the history is in {folder / HISTORY}, beside what the database kept and all logs")
        else:
            shutil.rmtree(folder)
    print(tally.table(findings.compared))
    if arguments.json:
        figures = {
            "seed": plan.seed,
            "seconds": plan.seconds,
            **tally.figures(findings.compared),
            "violations": len(findings.violations),
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    print("\n".join(map(str, findings.violations)) or "no violation")
    print("\n".join(too_little), end="\n" if too_little else "")
    return 1 if findings.violations or too_little else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    today = int(datetime.now(UTC).strftime("%Y%m%d"))
    parser.add_argument("--seed", type=int, default=today, help="decides the plan; by default the day's date")
    parser.add_argument("--seconds", type=float, default=60, help="how long the clients and faults go on")
    parser.add_argument("--show-plan", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--keep", action="store_true", help="keep the history though nothing was found")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of the table there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
