"""Keep integer Helm parameters integers, although values are passed as JSON.

With `--set port=444`, templates see an integer; with a value file, they see a float, which may
print as 2.0240115e+07, does not match `%d` and does not equal 444. The library only accepts values
as JSON, in which all numbers become floats. Integer parameters are therefore passed as text with an
unguessable prefix, and a template that Helm runs first converts them in place. Schemas are checked
before that, on the numbers themselves.
"""

import base64
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projects.sources.chart_files import deepest, packed, without_schemas, without_templates

_TEMPLATE = """
{{- define "MARK" -}}
{{- $box := . -}}
{{- if kindIs "map" .v -}}
{{- $map := .v -}}
{{- range $key, $value := $map -}}
{{- if kindIs "string" $value -}}
{{- if hasPrefix "MARK" $value -}}
{{- $_ := set $map $key (int64 (trimPrefix "MARK" $value)) -}}
{{- end -}}
{{- else if or (kindIs "map" $value) (kindIs "slice" $value) -}}
{{- $inner := dict "v" $value -}}{{- template "MARK" $inner -}}
{{- if hasKey $inner "made" -}}{{- $_ := set $map $key $inner.made -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .v -}}
{{- range $index, $value := .v -}}
{{- $inner := dict "v" $value -}}
{{- if kindIs "string" $value -}}
{{- if hasPrefix "MARK" $value -}}
{{- $_ := set $inner "made" (int64 (trimPrefix "MARK" $value)) -}}
{{- end -}}
{{- else if or (kindIs "map" $value) (kindIs "slice" $value) -}}
{{- template "MARK" $inner -}}
{{- end -}}
{{- if hasKey $inner "made" -}}
{{- $list := get $box "made" | default $box.v -}}
{{- $before := slice $list 0 $index -}}
{{- $after := slice $list (add1 $index) -}}
{{- $_ := set $box "made" (concat $before (list $inner.made) $after) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- template "MARK" (dict "v" .Values) -}}
"""


@dataclass(frozen=True, slots=True)
class PreparedChart:
    """A chart that restores integers, and additional fields of the request to render it."""

    content: Mapping[str, bytes]
    request: Mapping[str, Any]


def prepare(content: Mapping[str, bytes], parameters: Sequence[Mapping[str, Any]]) -> PreparedChart:
    """Prepare a chart for rendering; return it unchanged if no parameter can be an integer."""
    if not any(re.search(r"\d", p["value"]) for p in parameters if not p["forceString"]):
        return PreparedChart(content, {})
    mark = f"whole-{secrets.token_hex(16)}-"
    bare = without_schemas(content)
    # Helm runs the templates of the deepest folders first.
    place = f"templates/{'0/' * deepest(content)}{mark}.yaml"
    request = {"mark": mark}
    if len(bare) != len(content) or any(bare[path] is not content[path] for path in bare):
        archive = packed(without_templates(content))
        request["check"] = base64.b64encode(archive).decode()
    return PreparedChart({**bare, place: _TEMPLATE.replace("MARK", mark).encode()}, request)
