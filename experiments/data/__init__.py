"""Images: from files and archives to batches on the devices."""
