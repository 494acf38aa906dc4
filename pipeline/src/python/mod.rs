//! Python workers: coremltools in a process of its own.
