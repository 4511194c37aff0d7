"""python -m tallymark"""

from .cli import main

main()
