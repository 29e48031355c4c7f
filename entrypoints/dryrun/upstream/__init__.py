"""What runs inside the process that imports vLLM and vllm-ascend.

`__main__` imports both once and forks for each node. The stages (docs/dryrun.md): `configuration`;
`readers` for `later`; `worker` for `model` and `memory`. `devices` replaces the NPUs, and
`releases` holds what differs between releases.
"""
