//! The artifact store: digests, content store, action records, disposable index.
