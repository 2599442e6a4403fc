"""Space files that are drafted for data and a device."""
