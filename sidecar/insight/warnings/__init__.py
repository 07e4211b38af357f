"""
Warnings that need the compiled plan: routes that never match, or in part, and upstreams that nothing comes to. *Cold.*

Enters: a file as it was loaded and its plan (`compile.dry_plan.dry_plan`). Leaves: `Problem`s with a rule of
`config.warnings.rules`, by `of_plan.warnings_of`. Inside, `questions` compares what two routes ask, `filed` finds the
routes that are worth comparing, `example` makes a request and has `routing` say what becomes of it, and `shadows` puts
these together. Who may come in: `cli`, and the rest of `insight`.
"""
