{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* Copyright The Tandem Authors */}}

{{- define "tandem.labels" -}}
app.kubernetes.io/part-of: tandem
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- /* A version may have build metadata after a plus, which no label may have. */}}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The whole name of an image. Called with `root`, `name` and `image`, the values of that image alone. */}}
{{- define "tandem.image" -}}
{{- $common := .root.Values.image }}
{{- $image := .image | default dict }}
{{- if $image.override }}
{{- $image.override }}
{{- else }}
{{- $registry := (.root.Values.global | default dict).imageRegistry | default $image.registry | default $common.registry }}
{{- $repository := $image.repository | default (printf "%s/%s" $common.repository .name) }}
{{- $tag := $image.tag | default $common.tag | default (.root.Chart.AppVersion | replace "+" "_") }}
{{- printf "%s/%s:%s" $registry $repository $tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{- define "tandem.pullSecrets" -}}
{{- $secrets := list }}
{{- range concat ((.Values.global | default dict).imagePullSecrets | default list) (.Values.imagePullSecrets | default list) }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $secrets }}
imagePullSecrets: {{ toJson (uniq .) }}
{{- end }}
{{- end }}

{{/* With labels of the values, which win. Called with `root` and `labels`. */}}
{{- define "tandem.labelsWith" -}}
{{- merge (deepCopy (.labels | default dict)) (include "tandem.labels" .root | fromYaml) | toYaml }}
{{- end }}

{{/* What both DaemonSets' pods have, but for their containers. Called with the root. */}}
{{- define "tandem.podSpec" -}}
hostNetwork: true
{{- /* bpf(2), links and pins of the node are of its own user namespace, whatever the default of the cluster is. */}}
hostUsers: true
{{- include "tandem.noLinks" . }}
dnsPolicy: Default
priorityClassName: {{ .Values.priorityClassName }}
{{- /* After the drain bound the process has 5 s for the rest (docs/operations.md). */}}
terminationGracePeriodSeconds: {{ add .Values.drainSeconds 6 }}
{{- /* So that the process is not process 1, which no signal from within kills: who stands by ends one that hangs. */}}
shareProcessNamespace: true
{{- include "tandem.pullSecrets" . }}
{{- include "tandem.nodes" . }}
tolerations: {{ toJson .Values.tolerations }}
{{- end }}

{{/* Of every pod: a variable for each Service of the namespace could be too many, or be taken for an option. */}}
{{- define "tandem.noLinks" }}
enableServiceLinks: false
{{- end }}

{{/* On which nodes Tandem runs, but for taints. Called with the root. */}}
{{- define "tandem.nodes" }}
nodeSelector: {{ toJson .Values.nodeSelector }}
{{- with .Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end }}

{{/* The API server's address, if it is not kubelet's. Called with the root. */}}
{{- define "tandem.apiServer" -}}
{{- with .Values.k8s }}
{{- if .serviceHost }}
- {name: KUBERNETES_SERVICE_HOST, value: {{ .serviceHost | quote }}}
- {name: KUBERNETES_SERVICE_PORT, value: {{ .servicePort | default 6443 | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Of a container that writes to bpffs or takes locks there. Called with the root. */}}
{{- define "tandem.appArmor" -}}
{{- with .Values.appArmorProfile }}
{{- if has . (list "Unconfined" "RuntimeDefault") }}
appArmorProfile: {type: {{ . }}}
{{- else }}
appArmorProfile: {type: Localhost, localhostProfile: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Called with the root. */}}
{{- define "tandem.seLinux" -}}
{{- with .Values.seLinuxOptions }}
seLinuxOptions: {{ toJson . }}
{{- end }}
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
Probes of a process, by a socket of its own: with the node's network a port is answered by the process that has it, in an upgrade the old
one. Ready is who serves or stands by for the old one. The other member takes over from one that hangs within 100 ms, so there is no haste
to kill it: on a node that is short of CPU that would only cost more of it.
*/}}
{{- define "tandem.probes" -}}
startupProbe:
  exec: {command: {{ include "tandem.probe" "livez" }}}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
livenessProbe:
  exec: {command: {{ include "tandem.probe" "livez" }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 6
  terminationGracePeriodSeconds: 1
readinessProbe:
  exec: {command: {{ include "tandem.probe" "readyz" }}}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end }}

{{- define "tandem.probe" -}}
[/opt/tandem/bin/tandem-probe, /tmp/tandem/probe.sock, {{ . }}]
{{- end }}

{{/*
Where a process has /metrics. Brackets, because the node's address may be one of IPv6. Called with `root` and `port`.
*/}}
{{- define "tandem.metricsAddress" -}}
{{- if eq .root.Values.metrics.address "node" }}
- name: NODE_ADDRESS
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
{{- end }}
- name: TANDEM_METRICS_ADDRESS
  value: "{{ if eq .root.Values.metrics.address "node" }}[$(NODE_ADDRESS)]{{ else }}127.0.0.1{{ end }}:{{ .port }}"
{{- end }}

{{/* What a pod's process is told about its pod. */}}
{{- define "tandem.podOptions" -}}
- {name: TANDEM_PROBE_SOCKET, value: /tmp/tandem/probe.sock}
- {name: TANDEM_DRAIN_TIMEOUT, value: "{{ .Values.drainSeconds }}s"}
{{- end }}

{{/*
With surge the new pod stands by until the old one has ended, so that a node never has less than both processes, and an image that cannot be
pulled or does not start takes nothing away. Kubernetes allows either surge or unavailable pods.
*/}}
{{- define "tandem.updateStrategy" -}}
minReadySeconds: {{ .Values.updateStrategy.minReadySeconds }}
updateStrategy:
  type: RollingUpdate
  rollingUpdate:
    maxSurge: {{ .Values.updateStrategy.maxSurge }}
    maxUnavailable: {{ .Values.updateStrategy.maxUnavailable }}
{{- end }}

{{/* As JSON: what `helm test` looks for in the running processes too. */}}
{{- define "tandem.agent.capabilities" -}}
["BPF", "NET_ADMIN", "PERFMON", "CHOWN", "DAC_OVERRIDE", "FOWNER"]
{{- end }}

{{- define "tandem.dnsProxy.capabilities" -}}
["NET_RAW", "BPF"{{ if .Values.dnsProxy.netAdmin }}, "NET_ADMIN"{{ end }}]
{{- end }}

{{/* A number in a values file is a float: printed as text, a million would be 1e+06. */}}
{{- define "tandem.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* Options as variables: clusterName becomes TANDEM_CLUSTER_NAME. */}}
{{- define "tandem.options" -}}
{{- range $name, $value := . }}
- {name: TANDEM_{{ snakecase $name | upper }}, value: {{ include "tandem.text" $value | quote }}}
{{- end }}
{{- end }}
