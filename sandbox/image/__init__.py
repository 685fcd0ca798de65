"""Images: the store, and archives in and out."""
