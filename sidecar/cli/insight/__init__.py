"""
Commands that say what a configuration does: with a request, with recent ones, with any.

Enter: files, and words of the command line. Leave: reports for people or for programs, and exit codes. Who may come in:
`cli.commands`, one command at a time.
"""
