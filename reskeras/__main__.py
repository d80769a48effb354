"""`python -m reskeras`."""

from reskeras.cli import main

main()
