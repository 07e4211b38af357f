"""
The manifests of a mesh in Kubernetes: control plane, webhook, and what they may. *Cold, pure.*

    settings       what is asked for
    parts          what the pods of both have in common
    rights         who may ask the API for what
    control_plane  its objects
    webhook        its objects
    files          the mesh's own files as ConfigMaps
    print          all of it in order, and as YAML

Enters: names, an image, an engine, what is to be injected. Leaves: text for `kubectl apply`, the same for the same
wishes byte by byte. No cluster is asked for anything. Who may come in: `cli`.
"""
