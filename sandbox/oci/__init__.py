"""The OCI documents as frozen records: parse, check, write.  No I/O."""
