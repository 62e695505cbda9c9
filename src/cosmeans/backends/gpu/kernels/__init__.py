"""What runs on the device, one operation a file, and how it is started. Meaning: `backends/reference.py`."""
