"""The command line: one module per command, results on stdout, progress and errors on stderr.

A module declares its options once, as the dataclass ``Options`` that its ``run`` receives. A command imports what it
needs when it runs, so ``--help`` is fast. Start reading at ``main``.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from captioner.cli import (
    ask,
    caption,
    compare,
    compress,
    convert,
    doctor,
    evaluate,
    explain,
    export,
    finetune,
    inspect,
    push,
    review,
    search,
    serve,
    train,
)
from captioner.cli.arguments import add_arguments, parsed
from captioner.cli.output import tell
from captioner.data.paths import plain
from captioner.errors import CaptionerError
from captioner.system.allocation import keep_freed_memory
from captioner.version import __version__

VERBS = {
    "caption": caption,
    "ask": ask,
    "explain": explain,
    "inspect": inspect,
    "train": train,
    "finetune": finetune,
    "evaluate": evaluate,
    "compare": compare,
    "convert": convert,
    "compress": compress,
    "export": export,
    "push": push,
    "review": review,
    "search": search,
    "doctor": doctor,
    "serve": serve,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 if anything failed, 2 for invalid options."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if arguments and arguments[0] not in VERBS and arguments[0] not in ("-h", "--help", "--version"):
        if (mistake := _mistyped(arguments[0])) is not None:
            tell(mistake)
            return 2
        arguments.insert(0, "caption")  # `captioner photo.jpg`
    args = parser.parse_args(arguments)
    if args.verb is None:
        parser.print_help()
        return 2
    keep_freed_memory()
    try:
        verb = VERBS[args.verb]
        return int(verb.run(parsed(verb.Options, vars(args))))
    except CaptionerError as error:
        if args.debug:
            raise
        tell(error)
        return 1
    except KeyboardInterrupt as error:
        tell(error or "interrupted")
        return 130
    except BrokenPipeError:  # the reader has exited (`| head`)
        _drop_output()
        return 1
    except OSError as error:  # a full disk behind stdout, a read-only folder
        if args.debug:
            raise
        tell(f"{error}; free some space, or write to another folder")
        _drop_output()
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with a message, with control codes escaped: it may quote a file name that the shell expanded."""
        super().error(plain(message))


def _mistyped(word: str) -> str | None:
    """Return the error for a first argument that resembles a command and is not a file; None for any other."""
    near = difflib.get_close_matches(word.casefold(), VERBS, n=1, cutoff=0.7)
    if not near or os.path.lexists(word):
        return None
    return f"{word!r} is neither a command nor a file; did you mean `captioner {near[0]}`?"


def _drop_output() -> None:
    """Discard the buffer of stdout, so that it does not raise again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="captioner",
        description="Caption photos; train, fine-tune and evaluate captioners.",
        epilog="`captioner photo.jpg` is short for `captioner caption photo.jpg`.",
    )
    parser.add_argument("--version", action="version", version=f"captioner {__version__}")
    parser.set_defaults(verb=None)
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, module in VERBS.items():
        summary = (module.__doc__ or "").split("\n")[0].rstrip(".")
        verb = verbs.add_parser(name, help=summary, description=summary + ".")
        add_arguments(verb, module.Options)
        verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
        verb.set_defaults(verb=name)
    return parser
