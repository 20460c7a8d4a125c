"""The classroom's commands, behind ``make assignments`` and ``make tokens``.

``python -m mflib.classroom make [--course DIR] [NAME …]``
``python -m mflib.classroom check [--students N] NAME …``
``python -m mflib.classroom tokens [--course DIR] ROSTER``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mflib.classroom import course


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mflib.classroom", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="check assignments and make the course folder")
    make.add_argument("--course", type=Path, default=Path("course"))
    make.add_argument("names", nargs="*", metavar="NAME", help="all, if none is named")
    check = commands.add_parser("check", help="grade an assignment's solution and its release")
    check.add_argument("--students", type=int, default=1, help="ids that hand the solution in")
    check.add_argument("names", nargs="+", metavar="NAME")
    tokens = commands.add_parser("tokens", help="write the table of tokens")
    tokens.add_argument("--course", type=Path, default=Path("course"))
    tokens.add_argument("roster", type=Path, metavar="ROSTER")
    return parser


def main() -> None:
    """Run one command; exit with one sentence and status 1 if it cannot be done."""
    options = _parser().parse_args()
    try:
        if options.command == "make":
            course.make(options.course, course.known(options.names))
            print(f"The course is in {options.course}: hand out {options.course}/release.")
        elif options.command == "check":
            for path in course.known(options.names):
                found = course.check(path, options.students)
                print(
                    f"{path.stem}: full marks for {found.students} ids, none when empty; "
                    f"{found.automatic:g} + {found.by_hand:g} points, {found.seconds:.0f} s each"
                )
        else:
            table = course.write_tokens(options.course, options.roster)
            print(f"{table} holds everybody's token, and yours as {course.TEACHER!r}.")
    except (course.CourseError, ValueError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nStopped; run it again to go on.")


if __name__ == "__main__":
    main()
