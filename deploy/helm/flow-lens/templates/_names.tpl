{{/* Names and labels that several objects share. */}}

{{- define "flow-lens.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name, or release-chart where the release is called something else; room is left for -controller. */}}
{{- define "flow-lens.fullname" -}}
{{- $name := include "flow-lens.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "flow-lens.controllerName" -}}
{{ include "flow-lens.fullname" . }}-controller
{{- end -}}

{{/* Cluster-wide objects of releases in two namespaces must not be one object. */}}
{{- define "flow-lens.clusterName" -}}
{{ .Release.Namespace }}-{{ include "flow-lens.fullname" . }}
{{- end -}}

{{- define "flow-lens.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: flow-lens
{{- end -}}

{{- define "flow-lens.agentSelector" -}}
app.kubernetes.io/name: {{ include "flow-lens.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "flow-lens.controllerSelector" -}}
app.kubernetes.io/name: {{ include "flow-lens.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "flow-lens.agentAccount" -}}
{{- $own := .Values.agent.serviceAccount -}}
{{- default ($own.create | ternary (include "flow-lens.fullname" .) "default") $own.name -}}
{{- end -}}

{{- define "flow-lens.controllerAccount" -}}
{{- $own := .Values.controller.serviceAccount -}}
{{- default ($own.create | ternary (include "flow-lens.controllerName" .) "default") $own.name -}}
{{- end -}}

{{- define "flow-lens.agentImage" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "flow-lens.controllerImage" -}}
{{- $own := .Values.controller.image -}}
{{- $repository := default (printf "%s-controller" .Values.image.repository) $own.repository -}}
{{- if $own.digest -}}
{{ $repository }}@{{ $own.digest }}
{{- else -}}
{{ $repository }}:{{ coalesce $own.tag .Values.image.tag .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* "true" when a monitoring object is wanted: (list . "ServiceMonitor" .Values.serviceMonitor.enabled). */}}
{{- define "flow-lens.monitored" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $wanted := index . 2 | toString -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") ($root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind))) -}}
true
{{- end -}}
{{- end -}}

{{/*
How both monitors scrape. The agent's series carry the namespace, pod and container of the workload they are about:
honorLabels lets those win, and where a series has none of them (host processes) the agent's own must not fill the gap.
*/}}
{{- define "flow-lens.scraping" -}}
path: /metrics
interval: {{ .interval }}
scrapeTimeout: {{ .scrapeTimeout }}
honorLabels: true
relabelings:
  - {sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: node}
  - {action: labeldrop, regex: namespace|pod|container|service|endpoint}
  {{- with .relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
