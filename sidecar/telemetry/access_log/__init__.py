"""
One line a request: as JSON, or as the file's own template says.

Enters: the values of an exchange that is over, escaped. Leaves: a line (`json_line`, `line_template`) in the queue of a
thread that writes them to a file or a pipe (`writer`); what it cannot write is dropped and counted. Who may come in:
`telemetry`, and `workers` where a supervisor's file is shared.
"""
