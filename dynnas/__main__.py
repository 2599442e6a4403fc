"""`python -m dynnas` is the command `dynnas`."""

from dynnas.cli.app import main

main()
