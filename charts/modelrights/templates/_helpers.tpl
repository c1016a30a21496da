{{/* Labels that select the pods of one component. Call with (list $ "operator"). */}}
{{- define "modelrights.selector" -}}
app.kubernetes.io/name: modelrights
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of every object of one component. Call with (list $ "operator"). */}}
{{- define "modelrights.labels" -}}
{{ include "modelrights.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/part-of: modelrights
{{- end }}

{{/* Image reference. Call with (list $ .Values.operator.image). */}}
{{- define "modelrights.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $name := printf "%s/%s" $root.Values.image.registry $image.repository }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $root.Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The user name by which the API server knows the operator. */}}
{{- define "modelrights.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:modelrights-operator
{{- end }}

{{/* What the schema cannot say. Rendered by the operator's Deployment, which is always there. */}}
{{- define "modelrights.check" -}}
{{- if eq .Release.Namespace .Values.node.namespace }}
{{- fail (printf "node.namespace must not be the release's namespace %q: the node driver is privileged and the operator is not. Install with --namespace modelrights-system, or set node.namespace." .Release.Namespace) }}
{{- end }}
{{- end }}
