"""The command line. A command parses, calls one function and prints; progress goes to standard error.

Exit codes: 0 done; 1 one of our own errors, in one line; 2 usage; 3 done, but some inputs were skipped;
74 input or output failed (disk full); 77 no permission; 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import click

from anglehash.cli.console import EXIT_IO, EXIT_PERMISSION, printable
from anglehash.errors import AnglehashError, MissingExtraError
from anglehash.registry import Folder

TRAINING = ("torch", "sklearn", "scipy", "threadpoolctl", "onnx", "onnxscript")
"""What comes with the extra ``train`` alone: commands that encode or search do without."""

COMMANDS = Folder("command", "anglehash.cli.commands")


class _Commands(click.Group):
    """Every file of ``commands/`` is a command: its ``command`` object."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = COMMANDS[cmd_name].command
        return command


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="anglehash", message="%(prog)s %(version)s")
def cli() -> None:
    """Supervised deep hashing for image retrieval.

    Labelled images in, compact binary codes out, searched in less than a millisecond.

    \b
    Example:
        anglehash demo
    """


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        result = cli.main(prog_name="anglehash", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if sys.stdout:  # it may have been closed
            sys.stdout.flush()
    except click.exceptions.Abort:
        code = _say("stopped", 130)
    except KeyboardInterrupt:
        code = _say("stopped", 130)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except AnglehashError as error:
        code = _say(f"Error: {error}", 1)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in TRAINING:
            raise  # of the package itself: a broken installation shows where
        code = _say(f"Error: {MissingExtraError(str(error.name), extra='train')}", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: not our fault
        code = 0
    except PermissionError as error:
        code = _say(f"Error: no permission: {error.filename or error}", EXIT_PERMISSION)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        code = _say(f"Error: {error.strerror or error}{where}", EXIT_IO)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit; where torchrun started this process, without taking the interpreter down.

    The threads of torch's process group outlive the group now and then, and one that wakes up in a dying
    interpreter aborts the process: one training in thirteen failed so, after all was done.
    """
    if "torch" in sys.modules and os.environ.get("WORLD_SIZE", "1") != "1":
        atexit._run_exitfuncs()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _say(line: str, code: int) -> int:
    click.echo("\n".join(map(printable, line.splitlines())), err=True)
    return code
