"""LlamaIndex, by its classes for servers like OpenAI's: chats, streams, tools, structured output, embeddings."""

from typing import Any

from checks import EMBEDDING_MODEL, KEY, MODEL, URL, check, run
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field


def model(**more: Any) -> OpenAILike:
    options = {"is_chat_model": True, "max_tokens": 16, "temperature": 0, "context_window": 2048, **more}
    return OpenAILike(model=MODEL, api_base=URL, api_key=KEY, max_retries=0, **options)


TURNS = [ChatMessage(role="system", content="Be short."), ChatMessage(role="user", content="Say hello.")]
vectors = OpenAILikeEmbedding(model_name=EMBEDDING_MODEL, api_base=URL, api_key=KEY, max_retries=0)


class Weather(BaseModel):
    """The weather of a town."""

    town: str = Field(max_length=12)
    degrees: int = Field(ge=0, le=40)


def weather(town: str) -> str:
    """The weather of a town."""
    return f"Sunny in {town}."


@check("chat")
def chat() -> None:
    assert model().chat(TURNS).message.content


@check("stream_chat")
def stream_chat() -> None:
    events = list(model().stream_chat(TURNS))
    assert len(events) > 2
    assert events[-1].message.content


@check("complete and stream_complete by a chat")
def complete() -> None:
    assert model().complete("Say hello.").text
    assert list(model().stream_complete("Say hello."))[-1].text


@check("complete and stream_complete by /completions")
def plain_complete() -> None:
    plain = model(is_chat_model=False)
    assert plain.complete("One, two,").text
    assert list(plain.stream_complete("One, two,"))[-1].text


@check("async: achat, astream_chat, acomplete")
async def asynchronous() -> None:
    asked = model()
    assert (await asked.achat(TURNS)).message.content
    assert [event async for event in await asked.astream_chat(TURNS)]
    assert (await asked.acomplete("Say hello.")).text


@check("the engine's own fields in additional_kwargs")
def extra() -> None:
    assert model(additional_kwargs={"extra_body": {"top_k": 5}, "seed": 3}).chat(TURNS).message.content


@check("a tool that must be called")
def tool() -> None:
    asked = model(is_function_calling_model=True, max_tokens=64)
    answer = asked.chat_with_tools([FunctionTool.from_defaults(weather)], "The weather in Oslo?", tool_required=True)
    (call,) = asked.get_tool_calls_from_response(answer)
    assert call.tool_name == "weather"
    assert "town" in call.tool_kwargs


@check("predict_and_call runs a tool")
def called() -> None:
    asked = model(is_function_calling_model=True, max_tokens=64)
    answer = asked.predict_and_call([FunctionTool.from_defaults(weather)], "The weather in Oslo?", tool_required=True)
    assert "Sunny" in str(answer)


@check("structured output by a tool, and by a schema")
def structured() -> None:
    for strict in (False, True):
        asked = model(is_function_calling_model=not strict, should_use_structured_outputs=strict, max_tokens=200)
        made = asked.as_structured_llm(Weather).chat([ChatMessage(role="user", content="The weather in Oslo?")])
        assert isinstance(made.raw, Weather), made


@check("embeddings: one, several, a query")
def embeddings() -> None:
    assert vectors.get_text_embedding("one")
    assert len(vectors.get_text_embedding_batch(["one", "two", "three"])) == 3
    assert vectors.get_query_embedding("one")


@check("async embeddings")
async def async_embeddings() -> None:
    assert len(await vectors.aget_text_embedding_batch(["one", "two"])) == 2


@check("an index, and a question to it")
def index() -> None:
    documents = [Document(text="Oslo is cold."), Document(text="Rome is warm.")]
    made = VectorStoreIndex.from_documents(documents, embed_model=vectors)
    assert len(made.as_retriever(similarity_top_k=1).retrieve("Is Oslo cold?")) == 1
    assert str(made.as_query_engine(llm=model(), similarity_top_k=1).query("Is Oslo cold?"))


run("llama-index-llms-openai-like")
