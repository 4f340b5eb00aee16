from importlib import import_module

EmbeddingRequest = import_module("vllm.entrypoints.request_models").Model("/v1/embeddings")
