from importlib import import_module

CompletionRequest = import_module("vllm.entrypoints.request_models").Model("/v1/completions")
