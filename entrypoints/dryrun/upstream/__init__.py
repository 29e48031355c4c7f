"""What runs inside the process that imports vLLM and vllm-ascend.

`__main__` imports both once and forks for each node; `configuration` is stage 1, `worker` stage 2,
`readers` asks what reads its settings later. `devices` replaces the NPUs, and `releases` holds
what differs between releases.
"""
