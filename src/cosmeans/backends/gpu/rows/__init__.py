"""Where the rows of a session are: on the device, or on the host and sent when they are needed."""
