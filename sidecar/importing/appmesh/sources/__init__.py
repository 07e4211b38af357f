"""
Where the resources of App Mesh stand in what people have, and how each source spells their fields. *Cold, pure.*

Enters: documents. Leaves: `Resource`s whose fields are read by the names of App Mesh's API, in camel case. Who may come
in: `importing.appmesh`.
"""
