from typing import cast

from apps.accounts.models import ApiKey, Project
from apps.core.api.views import ApiView


class ProjectView(ApiView):
    """A route that an API key opens, to what is its project's."""

    @property
    def key(self) -> ApiKey:
        return cast(ApiKey, self.request.auth)

    @property
    def project(self) -> Project:
        return self.key.project
