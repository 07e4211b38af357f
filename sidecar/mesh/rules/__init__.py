"""
What the files of a mesh may be together. *Cold, pure.*

Enters: services as they were read, with their places. Leaves: problems and warnings, at every place that they are
about. Comes in: `mesh.read` alone.
"""
