"""``python -m reference_server DIR ...`` serves; ``python -m reference_server frames FILE`` prints a record."""

import sys

from reference_server.cli import main, serve

if len(sys.argv) > 1 and sys.argv[1] not in main.commands and not sys.argv[1].startswith("-"):
    serve()
else:
    main()
