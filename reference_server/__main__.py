"""``python -m reference_server DIR ...`` serves; ``python -m reference_server frames FILE`` prints a record."""

import sys

import click

from reference_server.commands.frames import frames
from reference_server.commands.serve import serve

main = click.Group(commands=[frames, serve], help="The reference 9P2000.L server.")

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] not in main.commands and not sys.argv[1].startswith("-"):
        serve()
    else:
        main()
