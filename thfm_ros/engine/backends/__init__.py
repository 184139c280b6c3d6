"""One module a backend; each offers `open_runtime(manifest, threads) -> Runtime` or says in one line why it cannot."""
