"""
From the file to the plan: settings become what the data path reads. *Cold, pure.*

Enters: the frames that a compiler process made of a file (`frames`), made into objects again by `deserialize`, and the
clusters that `upstream` prepared. Leaves: a `proxy.plan.Plan` (`plan`), the settings in force for people (`effective`),
or every value that cannot be compiled (`dry_plan`). Long work is in steps, which `time_slices` drives. Who may come in:
`insight`, `loader`, `runtime`, `workers` and `cli`; what serves requests knows only the plan.
"""
