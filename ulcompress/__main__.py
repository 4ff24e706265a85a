"""`python -m ulcompress`."""

from ulcompress.commands.main import main

main()
