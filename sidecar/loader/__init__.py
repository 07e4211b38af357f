"""
The compiler's process, and how a configuration travels from it to the data path. *Cold.*

`spawn` starts a process, in which `compiler` reads the file, judges it and makes frames of it (`serialize`); `wire`
carries them, `compiler_process` reads them, `config_loader` says when. Enters: the path of a file, the environment and
what asks for a load. Leaves: frames, or problems, and a `LoadOutcome`. Who may come in: `runtime` and `workers`, which
put frames in force, and `cli`. What the models need is imported only in the compiler's process.
"""
