{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* Copyright The Tandem Authors */}}

{{/*
Called with `root` and `weight`. `stays`: Helm would take away what has succeeded also when a later hook fails, and the DaemonSet is
to go on with nodes that come back then: the Job deletes it.
*/}}
{{- define "tandem.uninstall.metadata" -}}
name: {{ .root.Release.Name }}-uninstall
namespace: {{ .root.Release.Namespace | quote }}
labels:
  app.kubernetes.io/name: tandem-uninstall
  {{- include "tandem.labels" .root | nindent 2 }}
annotations:
  helm.sh/hook: post-delete
  helm.sh/hook-weight: {{ .weight | quote }}
  helm.sh/hook-delete-policy: before-hook-creation{{ if not .stays }},hook-succeeded{{ end }}
  {{- if .stays }}
  # Argo CD makes a hook again that the Job has deleted, and would leave it.
  argocd.argoproj.io/hook-delete-policy: HookSucceeded
  {{- end }}
{{- end }}
