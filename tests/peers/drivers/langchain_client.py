"""LangChain: chats, streams, tools, structured output, batches of calls, an agent, embeddings, by langchain-openai."""

from typing import Any

from checks import EMBEDDING_MODEL, KEY, MODEL, URL, check, run
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from openai import NotFoundError
from pydantic import BaseModel, Field

PLACE: dict[str, Any] = {"model": MODEL, "base_url": URL, "api_key": KEY, "max_retries": 0}


def chat(**more: Any) -> ChatOpenAI:
    return ChatOpenAI(**{**PLACE, "max_tokens": 16, "temperature": 0, **more})


class Weather(BaseModel):
    """The weather of a town."""

    town: str = Field(max_length=12)
    degrees: int = Field(ge=0, le=40)


@tool
def weather(town: str) -> str:
    """The weather of a town."""
    return f"Sunny in {town}."


@check("invoke")
def invoke() -> None:
    answer = chat().invoke([SystemMessage("Be short."), HumanMessage("Say hello.")])
    assert answer.content
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["model_name"] == MODEL


@check("a chain of a template and a model")
def chain() -> None:
    template = ChatPromptTemplate.from_messages([("system", "Be short."), ("human", "Say {word}.")])
    assert (template | chat()).invoke({"word": "hello"}).content


@check("stream, with its usage")
def stream() -> None:
    events = list(chat(stream_usage=True).stream("Say hello."))
    assert len(events) > 2
    assert "".join(str(event.content) for event in events)
    assert any(event.usage_metadata for event in events)


@check("async: ainvoke, astream, abatch, astream_events")
async def asynchronous() -> None:
    model = chat()
    assert (await model.ainvoke("Say hello.")).content
    assert [event async for event in model.astream("Say hello.")]
    assert len(await model.abatch(["one", "two"])) == 2
    kinds = {event["event"] async for event in model.astream_events("Say hello.")}
    assert "on_chat_model_stream" in kinds, kinds


@check("batch: several calls at once")
def batch() -> None:
    assert len(chat(max_tokens=4).batch([f"Say {number}." for number in range(6)], {"max_concurrency": 3})) == 6


@check("n, stop, seed, logprobs, penalties")
def settings() -> None:
    answer = chat(
        n=2, temperature=0.8, stop=["###"], seed=3, logprobs=True, top_logprobs=2, presence_penalty=0.1, top_p=0.9
    ).generate([[HumanMessage("Say hello.")]])
    assert len(answer.generations[0]) == 2
    first: Any = answer.generations[0][0]
    assert first.message.response_metadata["logprobs"]["content"]


@check("the engine's own fields in extra_body")
def extra() -> None:
    assert chat(extra_body={"top_k": 5, "min_p": 0.1}).invoke("Say hello.").content


@check("a tool that must be called")
def forced_tool() -> None:
    answer = chat(max_tokens=64).bind_tools([weather], tool_choice="weather").invoke("The weather in Oslo?")
    assert isinstance(answer, AIMessage)
    assert answer.tool_calls[0]["name"] == "weather"
    assert "town" in answer.tool_calls[0]["args"]


@check("a tool that must be called, as a stream")
def streamed_tool() -> None:
    whole: Any = None
    for event in chat(max_tokens=64).bind_tools([weather], tool_choice="weather").stream("The weather in Oslo?"):
        whole = event if whole is None else whole + event
    assert whole.tool_calls[0]["name"] == "weather", whole


@check("tools that may be called, and a tool's answer")
def tools() -> None:
    model = chat().bind_tools([weather])
    assert isinstance(model.invoke("The weather in Oslo?"), AIMessage)
    call: Any = {"name": "weather", "args": {"town": "Oslo"}, "id": "call_1", "type": "tool_call"}
    asked, answered = AIMessage("", tool_calls=[call]), ToolMessage("Sunny.", tool_call_id="call_1")
    turns = [HumanMessage("The weather in Oslo?"), asked, answered]
    assert isinstance(model.invoke(turns), AIMessage)


@check("an agent with a tool")
def agent() -> None:
    made = create_agent(chat(), [weather], system_prompt="Be short.")
    answer = made.invoke({"messages": [HumanMessage("Say hello.")]}, {"recursion_limit": 6})
    assert answer["messages"][-1].content


for method in ("json_schema", "function_calling"):

    @check(f"structured output by {method}")
    def structured(method: Any = method) -> None:
        asked = chat(max_tokens=200).with_structured_output(Weather, method=method, include_raw=True)
        made: Any = asked.invoke("The weather in Oslo?")
        assert isinstance(made["parsed"], Weather), made


@check("structured output by json_mode")
def json_mode() -> None:
    model = chat(stop=[":"]).with_structured_output(None, method="json_mode", include_raw=True)
    answer: Any = model.invoke("Answer in JSON: the weather in Oslo?")
    assert str(answer["raw"].content).startswith("{"), answer


@check("responses, and as a stream")
def responses() -> None:
    model = chat(use_responses_api=True)
    assert model.invoke("Say hello.").text
    assert [event for event in model.stream("Say hello.") if event.text]


@check("completions, and as a stream")
def completions() -> None:
    model = OpenAI(**PLACE, max_tokens=8)
    assert model.invoke("One, two,")
    assert "".join(model.stream("One, two,"))


@check("embeddings, sync and async")
async def embeddings() -> None:
    plain = OpenAIEmbeddings(**{**PLACE, "model": EMBEDDING_MODEL}, check_embedding_ctx_length=False)
    assert len(plain.embed_documents(["one", "two"])) == 2
    assert plain.embed_query("one")
    assert len(await plain.aembed_documents(["one", "two"])) == 2


@check("errors have their class")
def errors() -> None:
    try:
        chat(model="no-such-model").invoke("Say hello.")
    except NotFoundError as error:
        words = str(error)
    else:
        raise AssertionError("no error")
    assert "no-such-model" in words


run("langchain-openai")
