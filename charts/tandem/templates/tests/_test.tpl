{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* Copyright The Tandem Authors */}}

{{- define "tandem.test.annotations" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* A container that runs a script of the chart by the agent's image. Called with the root, the script and its variables. */}}
{{- define "tandem.test.container" -}}
- name: test
  image: {{ include "tandem.image" (dict "root" .root "name" "agent" "image" .root.Values.agent.image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [/bin/node, /test/{{ .script }}]
  env: {{ toJson .env }}
  securityContext:
    runAsUser: 65534
    runAsGroup: 65534
    runAsNonRoot: true
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    seccompProfile: {type: RuntimeDefault}
    capabilities: {drop: [ALL]}
  volumeMounts:
    - {name: test, mountPath: /test, readOnly: true}
{{- end }}
