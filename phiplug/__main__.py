"""Lets `python -m phiplug` be the command line."""

from phiplug.cli import main

main()
