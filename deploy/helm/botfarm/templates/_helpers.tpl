{{- define "botfarm.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- /* Of one component: (dict "root" $ "component" "api"). */}}
{{- define "botfarm.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "botfarm.labels" -}}
{{ include "botfarm.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "botfarm.secretName" -}}
{{- .Values.existingSecret | default (include "botfarm.name" .) }}
{{- end }}

{{- define "botfarm.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* What every container has: its image, its rights, its environment and its secrets. */}}
{{- define "botfarm.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
env:
  - {name: BOTFARM_SECRETS_DIR, value: /run/secrets/botfarm}
  {{- range $name, $value := .Values.settings }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
volumeMounts:
  - {name: secrets, mountPath: /run/secrets/botfarm, readOnly: true}
{{- end }}

{{- /* The keys of the Secret that a process gets as files: (dict "root" $ "must" (list ...) "may" (list ...)). */}}
{{- define "botfarm.secrets" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ include "botfarm.secretName" .root }}
          items:
            {{- range .must }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
      - secret:
          name: {{ include "botfarm.secretName" .root }}
          optional: true
          items:
            {{- range .may }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
{{- end }}

{{- /* Where a pod may run: (dict "root" $ "component" "api" "values" .Values.api). */}}
{{- define "botfarm.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ include "botfarm.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "botfarm.selector" $ | nindent 8 }}
  {{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* A changed Secret of ours, or changed settings, start new pods. */}}
{{- define "botfarm.podAnnotations" -}}
{{- if not .root.Values.existingSecret }}
checksum/secret: {{ toJson .root.Values.secret | sha256sum }}
{{- end }}
{{- with .values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}
