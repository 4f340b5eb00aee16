import openai
import pytest

from tests.conformance.lines import CHAT_MODEL, EMBEDDING_MODEL
from tests.conformance.site import Site

pytestmark = pytest.mark.live


def test_it_works(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {CHAT_MODEL, EMBEDDING_MODEL} <= set(models)
    assert client.models.retrieve(CHAT_MODEL) == models[CHAT_MODEL]


async def test_it_works_asynchronously(site: Site) -> None:
    async with site.async_client() as client:
        assert CHAT_MODEL in [model.id async for model in client.models.list()]
        assert (await client.models.retrieve(CHAT_MODEL)).object == "model"


def test_a_key_sees_only_the_models_on_its_list(site: Site) -> None:
    client = site.client("narrow")
    assert [model.id for model in client.models.list()] == [EMBEDDING_MODEL]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(CHAT_MODEL)


@pytest.mark.parametrize("name", ["nothing", "org/nothing", "ft:a:b:c", "a b", "\0", "x" * 3000])
def test_it_rejects_unknown_models(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    assert caught.value.code == "model_not_found"
