{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* Copyright The Tandem Authors */}}

{{- define "tandem.labels" -}}
app.kubernetes.io/part-of: tandem
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What both DaemonSets' pods have, but for their containers. Called with the root. */}}
{{- define "tandem.podSpec" -}}
hostNetwork: true
dnsPolicy: Default
priorityClassName: {{ .Values.priorityClassName }}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
nodeSelector: {{ toJson .Values.nodeSelector }}
tolerations: {{ toJson .Values.tolerations }}
{{- end }}

{{/* Volumes and mounts of both. bpffs: pins that a process makes are the node's. */}}
{{- define "tandem.volumes" -}}
- name: bpf
  hostPath: {path: /sys/fs/bpf, type: Directory}
- name: run
  hostPath: {path: {{ .Values.runDir }}, type: DirectoryOrCreate}
- name: state
  hostPath: {path: {{ .Values.stateDir }}, type: DirectoryOrCreate}
{{- end }}

{{- define "tandem.mounts" -}}
- {name: bpf, mountPath: /sys/fs/bpf, mountPropagation: HostToContainer}
- {name: run, mountPath: {{ .Values.runDir }}}
{{- end }}

{{/*
Probes of a process, by its port: of the node's loopback address, since the pod has the node's network. The other member takes over from
one that hangs within 100 ms, so there is no haste to kill it: on a node that is short of CPU that would only cost more of it.
*/}}
{{- define "tandem.probes" -}}
startupProbe:
  httpGet: {host: 127.0.0.1, port: {{ .metricsPort }}, path: /healthz}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet: {host: 127.0.0.1, port: {{ .metricsPort }}, path: /healthz}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 6
  terminationGracePeriodSeconds: 1
readinessProbe:
  httpGet: {host: 127.0.0.1, port: {{ .metricsPort }}, path: /readyz}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end }}

{{/* Options as variables: clusterName becomes TANDEM_CLUSTER_NAME. */}}
{{- define "tandem.options" -}}
{{- range $name, $value := . }}
- {name: TANDEM_{{ snakecase $name | upper }}, value: {{ toString $value | quote }}}
{{- end }}
{{- end }}
