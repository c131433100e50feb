"""Charts and overlays that tests carry, by name: the files of each, `chart` or `over` being what
is rendered.
"""

CM = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '{a}'}}\n"

SIMPLE = {
    "chart/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.2.3\n",
    "chart/values.yaml": "a: chart\nlist: [1]\n",
    "chart/values-a.yaml": "a: file-a\n",
    "chart/values-b.yaml": "a: file-b\nb: file-b\n",
    "chart/templates/cm.yaml": (
        "apiVersion: v1\nkind: ConfigMap\n"
        "metadata: {name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}\n"
        'data: {a: {{ .Values.a | quote }}, b: {{ .Values.b | default "none" | quote }}, file: '
        '{{ .Values.file | default "" | quote }}}\n'
    ),
    "chart/templates/NOTES.txt": "thanks",
    "chart/templates/_helpers.tpl": '{{- define "x" }}y{{ end }}',
    "chart/templates/test.yaml": (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: t, annotations: {helm.sh/hook: test}}\n"
        "spec: {}\n"
    ),
    "chart/crds/crd.yaml": (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        "metadata: {name: x.example.com}\nspec: {}\n"
    ),
    "shared/values-c.yaml": "a: shared\n",
    "shared/text.txt": "from, a file",
}

_KINDS = r"""
{{- define "kinds" -}}
{{- if kindIs "map" .v -}}
{{- $path := .p -}}{{- range $k, $x := .v }}{{ template "kinds" (dict "v" $x "p" (printf "%s.%s" $path $k)) }}{{ end -}}
{{- else if kindIs "slice" .v -}}
{{- $path := .p -}}{{- range $i, $x := .v }}{{ template "kinds" (dict "v" $x "p" (printf "%s[%d]" $path $i)) }}{{ end -}}
{{- else }}
{{ .p }} {{ kindOf .v }} {{ .v | toJson }} {{ .v }}
{{- end -}}
{{- end -}}
"""
_SHOWN = """apiVersion: v1
kind: ConfigMap
metadata: {name: NAME}
data:
  json: {{ toJson .Values | quote }}
  yaml: {{ toYaml .Values | quote }}
  kinds: {{ include "kinds" (dict "v" .Values "p" "") | quote }}
"""

VALUES = {
    "chart/Chart.yaml": """apiVersion: v2
name: values
version: 1.0.0
dependencies:
  - {name: sub, version: ">=1.0.0", condition: sub.enabled}
  - {name: sub, version: 1.x, alias: second, tags: [extra]}
  - {name: lib, version: "*", import-values: [data, {child: more, parent: imported}]}
""",
    "chart/values.yaml": """hosts:
  - {name: one, port: 80}
  - {name: two, port: 81, paths: [/, /api]}
args: [--first, --second]
image: {repository: app, tag: 1.0, pullPolicy: Always}
big: 12345678901
ratio: 0.25
sub: {enabled: true, replicas: 2}
global: {region: north, ports: {http: 80}}
""",
    "chart/templates/_kinds.tpl": _KINDS,
    "chart/templates/all.yaml": _SHOWN.replace("NAME", "all"),
    "chart/templates/deep/er/still/used.yaml": """apiVersion: v1
kind: ConfigMap
metadata: {name: used}
data:
  number: {{ with .Values.port }}{{ if kindIs "int64" . }}{{ printf "%d" . | quote }}{{ else }}"no"{{ end }}{{ else }}"none"{{ end }}
  tag: {{ if kindIs "map" .Values.image }}"{{ .Values.image.tag }}"{{ end }}
  first: {{ if kindIs "slice" .Values.args }}{{ first .Values.args | toString | quote }}{{ end }}
""",
    "chart/charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.4.0\n",
    "chart/charts/sub/values.yaml": "replicas: 1\nid: 7\nlabels: {a: b}\n",
    "chart/charts/sub/templates/all.yaml": _SHOWN.replace("NAME", "{{ .Chart.Name }}"),
    "chart/charts/lib/Chart.yaml": "apiVersion: v2\nname: lib\nversion: 0.1.0\n",
    "chart/charts/lib/values.yaml": "exports: {data: {exported: 1}}\nmore: {x: [1, 2]}\n",
    "shared/one.yaml": "image: {tag: 20240115}\nhosts: [{name: file}]\nextra: {a: 1}\n",
    "shared/config.json": '{\n  "a": [1, 2], "b": "c\\\\d, {e}"\n}\n',
    "shared/windows.txt": "C:\\Program Files\\app,v1\\new{x}\r\n",
    "shared/key.pem": "-----BEGIN CERTIFICATE-----\nMIIB=,{}\\n\n-----END CERTIFICATE-----\n",
    "shared/blank.txt": "\n\n  x = $HOME ${ARGOCD_APP_NAME}\n\n\n",
}

BLOCKS = {
    "chart/Chart.yaml": "apiVersion: v2\nname: blocks\nversion: 1.0.0\n",
    "chart/templates/ends.yaml": """{{- if true -}}
apiVersion: v1
kind: ConfigMap
metadata: {name: ends}
data:
  text: |
    first
    last
{{- end -}}
""",
    "chart/templates/several.yaml": """---
# a comment
apiVersion: v1
kind: ConfigMap
metadata: {name: clip}
data:
  text: |
    kept


---
apiVersion: v1
kind: ConfigMap
metadata: {name: strip}
data: {a: b}
folded: >-
  one
  two
---\x20
{{- range list "a" "b" }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: each-{{ . }}}
data:
  text: |
    of {{ . }}
    {{- if eq . "b" }}
    more
    {{- end }}
{{- end }}
---
# nothing but a comment
""",
    "chart/templates/literal.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: literal}\ndata:\n  text: |2\n"
        "      indented\n    less"
    ),
    "chart/templates/windows.yaml": (
        "apiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: windows}\r\ndata:\r\n  text: |\r\n"
        "    a\r\n    b"
    ),
    "chart/templates/close.yaml": (
        "---apiVersion: v1\nkind: ConfigMap\nmetadata: {name: close}\n\n\n---\n\n"
    ),
    "chart/templates/hook.yaml": (
        "apiVersion: batch/v1\nkind: Job\n"
        "metadata: {name: hook, annotations: {helm.sh/hook: 'pre-install,pre-upgrade', "
        "helm.sh/hook-weight: '-5'}}\n"
        "spec:\n  script: |-\n    a\n{{- /* the end */ -}}"
    ),
    "chart/templates/tests/it.yaml": (
        "apiVersion: v1\nkind: Pod\n"
        "metadata: {name: it, annotations: {helm.sh/hook: test-success}}\nscript: |\n  x\n"
        "{{- if true }}{{ end -}}"
    ),
    "chart/templates/list.yaml": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n"
        '  metadata: {name: of-list}\n  data: {text: "a\\n"}\n'
    ),
    "chart/crds/two.yaml": (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        "metadata: {name: a.example.com}\nspec: {description: |-\n  x}\n---\n"
    ),
    "chart/crds/one.yaml": (
        "kind: CustomResourceDefinition\napiVersion: apiextensions.k8s.io/v1\n"
        "metadata: {name: b.example.com}\nspec:\n  description: |\n    ends\n"
    ),
}
BLOCKS["chart/crds/two.yaml"] = (
    BLOCKS["chart/crds/one.yaml"].replace("b.example", "a.example")
    + "---\n"
    + BLOCKS["chart/crds/one.yaml"].replace("b.example", "c.example")
)

FILES = {
    "chart/Chart.yaml": (
        "apiVersion: v2\nname: files\nversion: 0.1.0\nappVersion: 1.16.0\n"
        "kubeVersion: '>=1.20.0-0'\nkeywords: [a, b]\nannotations: {x: y}\n"
    ),
    "chart/.helmignore": (
        "*.bak\nconf/secret*\n/top.txt\n!keep.bak\n# comment\ntemplates/ignored.yaml\n"
    ),
    "chart/values.yaml": (
        "name: '{{ .Release.Name }}-tpl'\nlist: [c, a, b]\nmap: {x: 1, y: {z: two}}\nneed: given\n"
    ),
    "chart/conf/a.ini": "[a]\nx = 1\n",
    "chart/conf/b.ini": "[b]\ny = 2\n\n",
    "chart/conf/secret.ini": "hidden",
    "chart/old.bak": "old",
    "chart/top.txt": "top",
    "chart/templates/ignored.yaml": "this: [is not YAML",
    "chart/templates/_helpers.tpl": (
        '{{- define "files.labels" -}}\napp: {{ .Chart.Name }}\n'
        "version: {{ .Chart.AppVersion | quote }}\n"
        "release: {{ .Release.Name }}\nservice: {{ .Release.Service }}\n{{- end -}}\n"
    ),
    "chart/templates/files.yaml": """apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ tpl .Values.name . | trunc 20 | trimSuffix "-" }}
  labels: {{- include "files.labels" . | nindent 4 }}
data:
  {{- (.Files.Glob "conf/*").AsConfig | nindent 2 }}
  top: {{ .Files.Get "top.txt" | quote }}
  old: {{ .Files.Get "old.bak" | quote }}
  lines: {{ .Files.Lines "conf/a.ini" | toJson | quote }}
  need: {{ required "need is needed" .Values.need | quote }}
  sorted: {{ sortAlpha .Values.list | join "," }}
  yaml: {{ .Values.map | toYaml | quote }}
  back: {{ (fromYaml "a: 1\\nb: [x]").b | first }}
  hash: {{ .Values | toJson | sha256sum }}
  upgrade: "{{ .Release.IsUpgrade }}{{ .Release.IsInstall }}{{ .Release.Revision }}"
  template: {{ .Template.Name }} {{ .Template.BasePath }}
  lookup: {{ lookup "v1" "Secret" "a" "b" | toJson | quote }}
---
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-files}
data:
  {{- (.Files.Glob "conf/a*").AsSecrets | nindent 2 }}
""",
}

CAPABILITIES = {
    "chart/Chart.yaml": "apiVersion: v2\nname: capabilities\nversion: 0.1.0\n",
    "chart/templates/a.yaml": """apiVersion: v1
kind: ConfigMap
metadata: {name: capabilities}
data:
  version: "{{ .Capabilities.KubeVersion.Version }} {{ .Capabilities.KubeVersion.Major }}.{{ .Capabilities.KubeVersion.Minor }} {{ .Capabilities.KubeVersion }}"
  newer: "{{ semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}"
  has: "{{ range list "v1" "apps/v1" "apps/v1/Deployment" "example.com/v1alpha1" "example.com/v1alpha1/Thing" "example.com/v1" "batch/v1beta1/CronJob" "policy/v1beta1" "nope/v1" }}{{ $.Capabilities.APIVersions.Has . }},{{ end }}"
""",
}

SCHEMA = {
    "chart/Chart.yaml": """apiVersion: v2
name: schema
version: 0.1.0
dependencies:
  - {name: strict, version: "1.0.0", condition: strict.enabled}
""",
    "chart/values.yaml": "port: 80\nname: x\nstrict: {enabled: false}\n",
    "chart/values.schema.json": (
        '{"type": "object", "properties": {"port": {"type": "integer", "maximum": 70000}, "name": '
        '{"type": "string"}}}'
    ),
    "chart/templates/a.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: schema}\n"
        'data: {port: "{{ .Values.port }}", kind: {{ kindOf .Values.port }}, same: "{{ and (kindIs '
        '"int64" .Values.port) (eq .Values.port 444) }}"}\n'
    ),
    "chart/charts/strict/Chart.yaml": "apiVersion: v2\nname: strict\nversion: 1.0.0\n",
    "chart/charts/strict/values.schema.json": (
        '{"type": "object", "required": ["must"], "properties": {"must": {"type": "integer"}}}'
    ),
    "chart/charts/strict/templates/a.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: strict}\n"
        'data: {must: "{{ .Values.must }}"}\n'
    ),
}

LIBRARY = {
    "chart/Chart.yaml": "apiVersion: v2\nname: library\nversion: 0.1.0\ntype: library\n",
    "chart/templates/_a.tpl": '{{ define "a" }}a{{ end }}',
}

_OF = """apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Chart.Name }}}
data: {version: {{ .Chart.Version }}, a: {{ .Values.a | quote }}}
"""
ALIASES = {
    "chart/Chart.yaml": """apiVersion: v2
name: aliases
version: 0.1.0
dependencies:
  - {name: demo, alias: old, version: 1.x, repository: file://../one}
  - {name: demo, alias: new, version: ">=2.0.0", repository: file://../two}
  - {name: demo, version: "2.0.0", repository: file://../two, condition: demo.enabled}
""",
    "chart/values.yaml": "old: {a: of-old}\nnew: {a: of-new}\ndemo: {enabled: false}\n",
    "one/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 1.4.0\n",
    "one/values.yaml": "a: own\n",
    "one/templates/a.yaml": _OF,
    "two/Chart.yaml": "apiVersion: v2\nname: demo\nversion: 2.0.0\n",
    "two/values.yaml": "a: own\n",
    "two/templates/a.yaml": _OF,
}

CHARTS = {
    "simple": SIMPLE,
    "values": VALUES,
    "blocks": BLOCKS,
    "files": FILES,
    "capabilities": CAPABILITIES,
    "schema": SCHEMA,
    "library": LIBRARY,
    "aliases": ALIASES,
}

_DEPLOYMENT = (
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n"
    "  selector: {matchLabels: {x: y}}\n"
    "  template:\n    metadata: {labels: {x: y}}\n"
    "    spec: {containers: [{name: m, image: 'img:1'}]}\n"
)
SMALL = {
    "base/kustomization.yaml": "resources: [cm.yaml, d.yaml]\n",
    "base/cm.yaml": CM.format(name="c", a="1"),
    "base/d.yaml": _DEPLOYMENT,
    "over/kustomization.yaml": "resources: [../base]\n",
    "comp/kustomization.yaml": (
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
        "patches:\n  - target: {kind: ConfigMap}\n    patch: |-\n      - op: add\n"
        "        path: /data/comp\n        value: '1'\n"
    ),
}

LAYERS = {
    "base/kustomization.yml": """resources: [d.yaml, more]
labels:
  - pairs: {team: base}
configMapGenerator:
  - name: settings
    literals: [a=1, "b=with=equals"]
    files: [app.ini, renamed.ini=app.ini]
  - name: env
    envs: [vars.env]
    options: {disableNameSuffixHash: true, labels: {l: m}}
secretGenerator:
  - name: secret
    type: Opaque
    literals: [password=hunter2]
images:
  - {name: img, newName: registry.example/img, newTag: v1}
""",
    "base/d.yaml": _DEPLOYMENT.replace(
        "'img:1'",
        "'img:1', envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: secret}}]",
    ),
    "base/app.ini": "[app]\nx = 1\n\n",
    "base/vars.env": "A=1\n# comment\nB=two words\n",
    "base/more/kustomization.yaml": "resources: [svc.yaml]\nnamePrefix: more-\n",
    "base/more/svc.yaml": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
        "spec: {selector: {x: y}, ports: [{port: 80}]}\n"
    ),
    "over/kustomization.yaml": """apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: over
nameSuffix: -over
resources: [../base, cm.yaml]
components: [../comp]
commonAnnotations: {note: yes-or-no}
patches:
  - path: patch.yaml
  - target: {kind: Service, name: "s"}
    patch: |-
      - {op: replace, path: /spec/ports/0/port, value: 8080}
replicas: [{name: d, count: 3}]
configMapGenerator:
  - {name: settings, behavior: merge, literals: [a=2, c=3]}
generatorOptions: {annotations: {generated: "true"}}
replacements:
  - source: {kind: ConfigMap, name: c, fieldPath: data.a}
    targets: [{select: {kind: Deployment}, fieldPaths: [metadata.annotations.copied], options: {create: true}}]
""",
    "over/cm.yaml": CM.format(name="c", a="text\\nof lines"),
    "over/patch.yaml": (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  template:\n"
        "    spec: {containers: [{name: m, resources: {limits: {memory: 1Gi}}}, {name: side, "
        "image: 'side@sha256:abc'}]}\n"
    ),
    "comp/kustomization.yaml": (
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [extra.yaml]\n"
        "patches: [{path: remove.yaml}]\n"
    ),
    "comp/extra.yaml": CM.format(name="extra", a="1"),
    "comp/remove.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: env}\n$patch: delete\n",
}

OLD_FIELDS = {
    "base/Kustomization": "resources:\n- d.yaml\n- c.yaml\ncommonLabels: {app: x}\nnamePrefix: b-\n",
    "base/d.yaml": _DEPLOYMENT,
    "base/c.yaml": CM.format(name="c", a="1") + "---\n" + CM.format(name="e", a="2"),
    "other/kustomization.yaml": "resources: [o.yaml]\n",
    "other/o.yaml": CM.format(name="o", a="3"),
    "over/kustomization.yaml": """bases: [../base, ../other]
patchesStrategicMerge:
  - merge.yaml
  - |-
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: c}
    data: {inline: "yes"}
patchesJson6902:
  - target: {version: v1, kind: ConfigMap, name: e}
    path: json.yaml
  - target: {version: v1, kind: ConfigMap, name: o}
    patch: '[{"op": "add", "path": "/data/b", "value": "4"}]'
configurations: [names.yaml]
crds: [crd.json]
configMapGenerator:
  - {name: old-env, env: x.env}
vars:
  - {name: NAME, objref: {apiVersion: v1, kind: ConfigMap, name: o}, fieldref: {fieldpath: metadata.name}}
namePrefix: o-
""",
    "over/merge.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
        "data: {a: null, m: merged, var: $(NAME)}\n"
    ),
    "over/json.yaml": "- {op: replace, path: /data/a, value: replaced}\n",
    "over/names.yaml": "varReference: [{kind: ConfigMap, path: data}]\n",
    "over/crd.json": "{}",
    "over/x.env": "X=1\n",
}
PLUGINS = {
    "over/kustomization.yaml": """resources: [../base]
generators: [gen.yaml]
transformers:
  - label.yaml
  - |-
    apiVersion: builtin
    kind: AnnotationsTransformer
    metadata: {name: notes}
    annotations: {by: plugin}
    fieldSpecs: [{path: metadata/annotations, create: true}]
labels:
  - {pairs: {tier: web}, includeSelectors: true}
  - {pairs: {only: meta}, includeTemplates: true}
replacements: [{path: replace.yaml}]
images: [{name: img, digest: "sha256:abc"}]
secretGenerator:
  - {name: files, files: [key=secret.txt, secret.txt], options: {immutable: true}}
sortOptions: {order: fifo}
""",
    "over/gen.yaml": (
        "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: made}\n"
        "files: [made=secret.txt]\nliterals: [x=y]\n"
    ),
    "over/label.yaml": (
        "apiVersion: builtin\nkind: LabelTransformer\nmetadata: {name: l}\nlabels: {from: plugin}\n"
        "fieldSpecs: [{path: metadata/labels, create: true}]\n"
    ),
    "over/replace.yaml": (
        "- source: {kind: Deployment, name: d, fieldPath: metadata.name}\n"
        "  targets: [{select: {kind: ConfigMap, name: c}, fieldPaths: [data.a]}]\n"
    ),
    "over/secret.txt": "top\nsecret\n\n",
    "base/kustomization.yaml": "resources: [d.yaml, c.yaml]\nnamespace: fixed\n",
    "base/d.yaml": _DEPLOYMENT,
    "base/c.yaml": CM.format(name="c", a="1"),
}

OVERLAYS = {"small": SMALL, "layers": LAYERS, "old fields": OLD_FIELDS, "plugins": PLUGINS}
