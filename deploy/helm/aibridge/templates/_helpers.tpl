{{- define "aibridge.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "aibridge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aibridge.labels" -}}
{{ include "aibridge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "aibridge.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "aibridge.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- /* The configuration: what the chart knows, and above it what the values say. */}}
{{- define "aibridge.config" -}}
{{- $known := dict
  "listen" (dict "host" "0.0.0.0" "port" 8080)
  "admin" (dict "host" "0.0.0.0" "port" 8081)
  "drain_deadline" 120
  "records" (dict "path" "/var/lib/aibridge/aibridge.db") }}
{{- mergeOverwrite $known (deepCopy .Values.config) | toYaml }}
{{- end }}
