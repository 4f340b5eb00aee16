from importlib import import_module

ResponsesRequest = import_module("vllm.entrypoints.request_models").Model("/v1/responses")
