"""The dry run: ask upstream's own code whether a node would start, without an NPU.

`command` plans the nodes and prints the report. `upstream/` runs in a process of its own, with the
image's vLLM and vllm-ascend: nothing else of the entrypoint imports them.
"""
