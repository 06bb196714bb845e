{{/*
The objects are those of `kubetask install` with the same values; crates/core/src/deploy makes them, and a test compares.
*/}}

{{- define "kubetask.selector" -}}
app.kubernetes.io/name: kubetask
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "kubetask.labels" -}}
{{ include "kubetask.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: kubetask
{{- end -}}

{{- define "kubetask.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The operator's rights: `.Files` has them as the operator's test found them. */}}
{{- define "kubetask.rules" -}}
{{ .Files.Get "files/controller-rules.yaml" }}
{{- end -}}

{{- define "kubetask.agentNamespaces" -}}
{{ .Values.agents.namespaces | default (list .Release.Namespace) | toJson }}
{{- end -}}
