"""The OpenAPI description, as files."""

import threading
from typing import Any, ClassVar

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularJSONAPIView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


def _rendered(renderer: BaseRenderer) -> bytes:
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    found = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    text: bytes = renderer.render(found, renderer.media_type, {})  # type: ignore[assignment]
    return text


class _Kept:
    """Renders the description once per process: it takes long, and anybody may request it."""

    _lock: ClassVar = threading.Lock()
    _texts: ClassVar[dict[str, bytes]] = {}

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, *_args: Any, **_kwargs: Any) -> HttpResponse:
        """Return the description of the whole surface, the same for every caller."""
        renderer = request.accepted_renderer
        with self._lock:
            if renderer.format not in self._texts:
                self._texts[renderer.format] = _rendered(renderer)
        return HttpResponse(self._texts[renderer.format], content_type=renderer.media_type)


class YAMLDescription(_Kept, SpectacularAPIView):
    """`/api/schema`: the description as YAML."""


class JSONDescription(_Kept, SpectacularJSONAPIView):
    """`/swagger.json`: the description as JSON."""
