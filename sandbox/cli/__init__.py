"""The program ``sandbox``: docker's verbs, flags, columns, texts and exit codes."""
