"""What admission found out about a model reaches those who use it: defaults that change answers, and templates."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from apps.core.errors import DomainError
from apps.models.engines.command import command
from apps.models.engines.settings import EngineSettings
from apps.models.installs.boot import succeed
from apps.models.models import Device, Engine, Install, Model
from apps.models.services import check_engine_settings, choose_defaults, start_install
from tests.fakes.hostile.folders import tiny_model
from tests.models.gateway.cast import Asking, chat
from tests.models.gateway.conftest import asking, lender, served
from tests.models.hubs import RunningHub
from tests.models.installs import ControlWorker
from tests.models.test_engine_command import has, make_spec

__all__ = ["asking", "lender", "served"]

SHORT = {"max_new_tokens": 5, "temperature": 0.6}
NO_CHAT = {"offered": False, "problem": "It has no chat template", "refused": {}}
pytestmark = pytest.mark.django_db(transaction=True)


def find(model: Model, **findings: Any) -> Model:
    Model.objects.filter(pk=model.pk).update(findings=findings)
    model.refresh_from_db()
    return model


def test_it_works(hub: RunningHub, control: ControlWorker) -> None:
    hub.add("acme/short", tiny_model() | {"generation_config.json": SHORT, "tokenizer_config.json": {}})
    new = control.drive(start_install(source="acme/short", project=None))
    assert new.status == "booting", new.message
    assert new.model
    assert new.model.findings == {"sampling_defaults": SHORT, "chat": NO_CHAT}
    succeed(new)
    new.refresh_from_db()
    assert "Answers end after 5 tokens unless a request gives max_tokens" in new.message
    assert "It has no chat template: it answers /v1/completions only" in new.message


def test_an_install_is_refused_with_the_keys(hub: RunningHub, control: ControlWorker) -> None:
    wrong = {"max_new_tokens": "many", "top_p": "0.9", "temperature": None}
    hub.add("acme/wrong", tiny_model() | {"generation_config.json": wrong})
    new = control.drive(start_install(source="acme/wrong", project=None))
    assert new.status == "refused"
    (refusal,) = new.refusals
    assert refusal["file"] == "generation_config.json"
    assert "max_new_tokens is 'many'" in refusal["reason"]
    assert "top_p is '0.9'" in refusal["reason"]
    assert "temperature" not in refusal["reason"]


def test_weights_that_no_engine_reads_are_neither_fetched_nor_counted(hub: RunningHub, control: ControlWorker) -> None:
    plain = tiny_model()
    copies = dict.fromkeys(("model.fp32.safetensors", "consolidated.safetensors"), plain["model.safetensors"])
    hub.add("acme/copies", plain | copies)
    new = control.drive(start_install(source="acme/copies", project=None))
    assert new.status == "booting", new.message
    assert not copies.keys() & hub.sent("acme/copies").keys()
    assert new.model
    assert new.model.bytes == new.bytes_total < sum(len(content) for content in copies.values()) + new.bytes_total


def test_the_api_names_them(api: APIClient, model: Model) -> None:
    find(model, sampling_defaults=SHORT)
    notes = api.get("/v1/models/test-model").json()["notes"]
    assert notes[0].startswith("Answers end after 5 tokens unless")
    assert "temperature 0.6" in notes[1]
    assert api.get("/v1/models").json()["data"][0]["notes"] == notes


async def test_a_model_without_a_template_does_not_take_chats(asking: Asking, served: Model) -> None:
    await Model.objects.aupdate(findings={"chat": NO_CHAT})
    answer = await asking.post(chat("x"))
    assert (answer.status, answer.code) == (400, "unsupported_endpoint")
    assert "does not answer /v1/chat/completions, but /v1/completions." in answer.json["error"]["message"]
    assert "It has no chat template: an operator can give one" in answer.json["error"]["message"]
    answer = await asking.post({"model": "test-model", "prompt": "x"}, "/v1/completions")
    assert answer.status == 200


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/chat/completions", b'{"model": "test-model", "messages": [{"role": "user", "content": "a <|pad|> b"}]}'),
        (
            "/v1/chat/completions",
            b'{"model": "test-model", "messages": [{"role": "user", "content": "\\u003c|pad|>"}]}',
        ),
        ("/v1/completions", b'{"model": "test-model", "prompt": ["x", "<|pad|>"]}'),
        ("/v1/completions", b'{"model": "test-model", "prompt": [1, 320]}'),
        ("/v1/completions", b'{"model": "test-model", "prompt": [[1], [320]]}'),
    ],
)
async def test_a_token_that_would_end_the_engine_is_refused(
    asking: Asking, served: Model, endpoint: str, body: bytes
) -> None:
    await Model.objects.aupdate(findings={"tokens_beyond": {"<|pad|>": 320}})
    answer = await asking.post(body, endpoint)
    assert (answer.status, answer.code) == (400, "unknown_token")
    assert "knows '<|pad|>', and the model does not" in answer.json["error"]["message"]
    answer = await asking.post(body.replace(b"|pad|", b"|bad|").replace(b"320", b"319"), endpoint)
    assert answer.status == 200


def test_an_adapter_chats_as_its_base_does(model: Model) -> None:
    find(model, chat=NO_CHAT)
    adapter = Model(name="adapter", base=model)
    assert adapter.endpoints == {"/v1/completions"}


def test_a_template_can_be_given(model: Model) -> None:
    find(model, chat=NO_CHAT)
    model.engine_settings = {"chat_template": "{{ messages[0].content }}"}
    check_engine_settings(model.engine_settings)
    assert "/v1/chat/completions" in model.endpoints
    assert model.notes == []
    spec = make_spec(settings=EngineSettings(chat_template="{{ messages[0].content }}"))
    assert has(command(spec), "--chat-template", "{{ messages[0].content }}")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ ''.__class__ }}", "may not touch"),
        ("{% for %}", "not a valid template"),
        ("{{ raise_exception('no') }}", "no"),
        ("", "chat_template cannot be"),
    ],
)
def test_it_rejects_a_template_that_is_harmful_or_useless(template: str, reason: str) -> None:
    with pytest.raises(DomainError, match=reason):
        check_engine_settings({"chat_template": template})


def test_defaults_can_be_left_out(model: Model) -> None:
    find(model, sampling_defaults=SHORT)
    device = Device.objects.create(slot="gpu:host:0")
    engine = Engine.objects.create(device=device, model=model, state=Engine.State.READY)
    choose_defaults(model=model, ignore=True)
    model.refresh_from_db()
    engine.refresh_from_db()
    assert (model.engine_settings, model.notes, engine.order) == ({"ignore_generation_config": True}, [], "stop")
    choose_defaults(model=model, ignore=False)
    model.refresh_from_db()
    assert model.engine_settings == {}
    assert has(
        command(make_spec(settings=EngineSettings(ignore_generation_config=True))), "--generation-config", "vllm"
    )
    assert "--generation-config" not in command(make_spec())


def test_the_models_page_shows_them_and_lets_them_be_ignored(model: Model) -> None:
    find(model, sampling_defaults=SHORT)
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    page = client.get(reverse("admin:models_model_change", args=[model.pk])).content.decode()
    assert "Answers end after 5 tokens" in page
    verb = reverse("admin:models_model_do", args=[model.pk, "ignore-defaults"])
    assert verb in page
    client.post(verb)
    model.refresh_from_db()
    assert model.engine_settings == {"ignore_generation_config": True}
    page = client.get(reverse("admin:models_model_change", args=[model.pk])).content.decode()
    assert "are left out: temperature 0.6, max_new_tokens 5." in page
    assert reverse("admin:models_model_do", args=[model.pk, "use-defaults"]) in page


def test_the_page_of_a_model_that_was_only_registered_says_that_it_was_not_examined(model: Model) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    url = reverse("admin:models_model_change", args=[model.pk])
    assert "Not examined" in client.get(url).content.decode()
    find(model, sampling_defaults={}, chat={"offered": True, "problem": "", "refused": {}})
    assert "Not examined" not in client.get(url).content.decode()


def test_an_install_that_is_ready_says_nothing_where_there_is_nothing_to_say(model: Model) -> None:
    install = Install.objects.create(source="acme/tiny", name="x", status=Install.Status.BOOTING, model=model)
    succeed(install)
    install.refresh_from_db()
    assert (install.status, install.message) == ("ready", "")
