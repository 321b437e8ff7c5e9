"""`python -m expraug` is the command `expraug`."""

from expraug.cli import app

app(prog_name="expraug")
