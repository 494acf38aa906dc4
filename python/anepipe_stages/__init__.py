"""The stages that only coremltools can do, run inside an anepipe worker process.

The sources are embedded in the anepipe binary and imported from memory. Nothing here may print: a stage takes a
JSON object and returns one.
"""
