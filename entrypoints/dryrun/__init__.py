"""The dry run: ask upstream's own code whether a node would start, without an NPU.

`command` plans the nodes and prints the report. `upstream/` runs in a separate process, the
only one of the entrypoint that imports the image's vLLM and vllm-ascend.
"""
