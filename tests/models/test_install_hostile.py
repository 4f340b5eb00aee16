"""The whole hostile corpus, through the hub: none is admitted, each is told why."""

import pytest

from apps.models.models import Install, Model
from apps.models.services import start_install
from tests.fakes.hostile.corpus import corpus
from tests.fakes.hostile.folders import tiny_model
from tests.models.hubs import RunningHub
from tests.models.installs import ControlWorker

pytestmark = pytest.mark.django_db(transaction=True)

CORPUS = [repository for repository in corpus() if repository.on_hub]


@pytest.fixture
def base(hub: RunningHub, control: ControlWorker) -> Model:
    hub.add("acme/tiny", tiny_model())
    model = control.drive(start_install(source="acme/tiny", project=None)).model
    assert model
    Model.objects.update(ready=True)
    model.refresh_from_db()
    return model


def test_it_admits_none(hub: RunningHub, control: ControlWorker, base: Model) -> None:
    assert len(CORPUS) >= 25
    started: list[Install] = []
    for repository in CORPUS:
        (hub.root / "evil").mkdir(exist_ok=True)
        repository.write(hub.root / "evil" / repository.name)
        rides_on = base if repository.is_adapter else None
        started.append(start_install(source=f"evil/{repository.name}", base=rides_on, project=None))
    for install, repository in zip(started, CORPUS, strict=True):
        control.drive(install, *Install.ENDED, Install.Status.BOOTING)
        assert install.status == "refused", repository.name
        told = [refusal for refusal in install.refusals if refusal["file"] == repository.file]
        assert any(repository.reason in refusal["reason"] for refusal in told), (repository.name, install.message)
    assert list(Model.objects.all()) == [base]
