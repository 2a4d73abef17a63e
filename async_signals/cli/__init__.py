"""The command line: `manage.py async_signals`."""
