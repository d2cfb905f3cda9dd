{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* Copyright The Tandem Authors */}}

{{/* Called with `root` and `weight`. What has succeeded goes; what has not stays, and goes on with nodes that come back. */}}
{{- define "tandem.uninstall.metadata" -}}
name: {{ .root.Release.Name }}-uninstall
namespace: {{ .root.Release.Namespace }}
labels:
  app.kubernetes.io/name: tandem-uninstall
  {{- include "tandem.labels" .root | nindent 2 }}
annotations:
  helm.sh/hook: post-delete
  helm.sh/hook-weight: {{ .weight | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
