"""
The author's text: read with the place of each part, edits written into it, and taken out of it again. *Cold, pure.*

Enters: text, and edits or what undoes them. Leaves: text in which every byte outside of the edits is the author's, or
the problem that says why that is not to be had. `tree` reads, `settle` looks where edits meet aliases and merge keys,
`splice` writes, `render` words what is new, `restore` takes out. Who may come in: `inject`.
"""
