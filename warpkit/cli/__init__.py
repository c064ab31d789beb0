"""The command line: parsers, and one call of a task for each command.

Holds no work of its own. Nothing imports it.
"""
