"""`python -m assay9` is the command `assay9`."""

from assay9.start import main

main()
