"""`python -m ulcompress`."""

from ulcompress.cli import main

main()
