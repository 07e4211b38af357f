"""A pure-Python L7 proxy that runs beside an app: routing, protection and telemetry from one hot-reloaded YAML file."""

__version__ = "0.1.0"
