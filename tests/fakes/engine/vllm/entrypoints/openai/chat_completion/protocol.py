from importlib import import_module

ChatCompletionRequest = import_module("vllm.entrypoints.request_models").Model("/v1/chat/completions")
