"""`python -m dynnas` is the command `dynnas`."""

from dynnas.cli import main

main()
