"""Whole numbers of Helm parameters, in charts whose values come as JSON.

`--set port=444` gives templates a whole number, a value file gives them a float: it prints as 2.0240115e+07, is no
`%d` and equals no 444. The library takes values as JSON alone, where every number is a float. So a whole number of a
parameter travels as text behind a mark that nobody can guess, and a template that Helm runs before all others makes
numbers of such texts, in place. Schemas are checked before, on the numbers themselves.
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
{{- if hasPrefix "MARK" $value -}}{{- $_ := set $map $key (int64 (trimPrefix "MARK" $value)) -}}{{- end -}}
{{- else if or (kindIs "map" $value) (kindIs "slice" $value) -}}
{{- $inner := dict "v" $value -}}{{- template "MARK" $inner -}}
{{- if hasKey $inner "made" -}}{{- $_ := set $map $key $inner.made -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .v -}}
{{- range $index, $value := .v -}}
{{- $inner := dict "v" $value -}}
{{- if kindIs "string" $value -}}
{{- if hasPrefix "MARK" $value -}}{{- $_ := set $inner "made" (int64 (trimPrefix "MARK" $value)) -}}{{- end -}}
{{- else if or (kindIs "map" $value) (kindIs "slice" $value) -}}
{{- template "MARK" $inner -}}
{{- end -}}
{{- if hasKey $inner "made" -}}
{{- $list := get $box "made" | default $box.v -}}
{{- $_ := set $box "made" (concat (slice $list 0 $index) (list $inner.made) (slice $list (add1 $index))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- template "MARK" (dict "v" .Values) -}}
"""


@dataclass(frozen=True, slots=True)
class PreparedChart:
    """A chart that makes whole numbers, and what else the request to render it needs."""

    content: Mapping[str, bytes]
    request: Mapping[str, Any]


def prepare(content: Mapping[str, bytes], parameters: Sequence[Mapping[str, Any]]) -> PreparedChart:
    """Return a chart as it is rendered: as it is, where no parameter can be a whole number."""
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
