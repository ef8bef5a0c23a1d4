"""`python -m assay9` is the command `assay9`."""

from assay9.cli import main

main()
