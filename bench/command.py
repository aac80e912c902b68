"""What every command of `bench` shares: help with an example, common options, tidy errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from bench import places
from bench.config import STAGES
from bench.errors import BenchError, MachineError

Function = TypeVar("Function", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose help ends with an example."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes the example under its own heading."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{' ' * formatter.current_indent}{line}\n")  # to copy: no wrapping


class Group(click.Group):
    """Commands in the order in which a newcomer meets them."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """As they are defined, not by the alphabet."""
        return list(self.commands)


def file_option(
    name: str, default: str, text: str, *, is_folder: bool = False
) -> Callable[[Function], Function]:
    """An option that names a file or folder; the default is one of the project."""
    kind = places.PathType(file_okay=not is_folder, dir_okay=is_folder)
    here = partial(places.project, default)  # asked when a command runs, not when help is shown
    return click.option(name, type=kind, default=here, show_default=default, help=text)


models_option = file_option("--models", places.MODELS, "The experiment.")
results_option = file_option(
    "--results", "bench/results", "Where records are kept.", is_folder=True
)
variants_option = click.option(
    "--variants", metavar="ID", multiple=True, help="Only this one; give more of it for others."
)
stages_option = click.option(
    "--stages", type=click.Choice(STAGES), multiple=True, help="Only this one; both by default."
)
force_option = click.option(
    "--force", is_flag=True, help="Measure again what is current; the older record is kept."
)
server_options = (
    click.option("--port", type=click.IntRange(1024, 65535), help="Of the server; a free one."),
    click.option(
        "--server-timeout",
        type=click.FloatRange(min=1),
        default=1800.0,
        show_default=True,
        help="Seconds a server may take to become healthy.",
    ),
)


def with_server_options(function: Function) -> Function:
    """Adds the options of commands that start servers."""
    for option in reversed(server_options):
        function = option(function)
    return function


def invoke(group: click.Group) -> None:
    """Runs a command line; an error of ours is one message and its exit code, no traceback."""
    try:
        sys.exit(group(standalone_mode=False) or 0)
    except BenchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:  # nobody closer knew more about it
        place = f"{error.filename}: " if error.filename else ""
        fix = "check that it is there, may be read and written, and that the disk has space"
        click.echo(f"error: {place}{error.strerror or error}\n  fix: {fix}", err=True)
        sys.exit(MachineError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: finished stages are kept; the same command continues", err=True)
        sys.exit(130)
